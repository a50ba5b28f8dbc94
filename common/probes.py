"""What a listener for health checks (`--health-listen`) bears, as options of a gRPC server.

It may be open to many, and its probes must not be kept out by some: a probe has a connection of its own, for
milliseconds.
"""

PROBES: dict[str, int] = {
    "grpc.so_reuseport": 0,  # two processes at one address would each get half of the probes
    "grpc.max_receive_message_length": 4 << 10,
    "grpc.max_allowed_incoming_connections": 64,
    "grpc.max_concurrent_streams": 8,
    "grpc.server_handshake_timeout_ms": 2_000,  # one that says nothing has a place for no longer
    "grpc.max_connection_age_ms": 5_000,
    "grpc.max_connection_age_grace_ms": 1_000,
}
