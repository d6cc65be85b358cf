//! One io_uring per core: sockets, buffers and completions. The only unsafe code of the workspace
