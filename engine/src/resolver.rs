//! A resolver over blocking sockets.
