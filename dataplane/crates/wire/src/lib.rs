//! Dialects of the gateway: bytes to actions, outgoing messages to bytes
