"""Config keys that tests set, as `--set key=value`. `ringgate-dataplane.example.toml` documents them."""

RESUME_GRACE_MS = "limits.resume_grace_ms"
DRAIN_DEADLINE_MS = "drain_ms"
STREAMS_MAX = "http2.streams_max"
CLIENT_CERTIFICATE_REQUIRED = "tls.client_required"


def patience_ms(milliseconds):
    """How long a client may be silent in the middle of something."""
    keys = ("http2.preface_timeout_ms", "http2.settings_timeout_ms", "http2.frame_timeout_ms")
    return dict.fromkeys(keys, milliseconds)
