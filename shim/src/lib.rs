//! The per-container process of Corten, and the protocol that the daemon speaks with it.
