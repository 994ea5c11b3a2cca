//! HTTP beside gRPC: health and metrics.
