//! What the configuration files say, what is true, and what this kernel can.

pub mod host;
