//! Sans-IO gRPC over HTTP/2: message framing, status, deadlines, health and reflection
