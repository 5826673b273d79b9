//! Corten: the daemon.
