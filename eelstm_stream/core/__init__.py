"""Pure logic: no clock, no sockets, no files, no inference."""
