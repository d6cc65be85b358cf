"""What the tests stand on: the gateway as a process, agents over grpcio, and a hand-driven HTTP/2 peer."""
