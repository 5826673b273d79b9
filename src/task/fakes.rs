//! Containers without processes, for tests of the engine.
