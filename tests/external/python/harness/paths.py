"""Where things are."""

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[4]
PROTO = ROOT / "proto"
EXT = ROOT / "target" / "ext"
STUBS = EXT / "stubs" / "python"
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
GATEWAY = Path(os.environ.get("RINGGATE_DATAPLANE", TARGET / "release" / "ringgate-dataplane"))
INTEROP_SERVER = Path(os.environ.get("RINGGATE_INTEROP_SERVER", TARGET / "release" / "examples" / "interop_server"))
CONTROL = Path(os.environ.get("RINGGATE_CONTROL_BINARY", TARGET / "release" / "ringgate-control"))
PERF = Path(os.environ.get("RINGGATE_PERF_BINARY", TARGET / "release" / "ringgate-perf"))
CLI = Path(os.environ.get("RINGGATE_CLI_BINARY", TARGET / "release" / "ringgate"))
MEMBER = Path(os.environ.get("RINGGATE_MEMBER", TARGET / "release" / "examples" / "member"))
