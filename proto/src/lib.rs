//! Protocol definitions of Ringgate and the gRPC services it serves, with generated types
