//! The client against plugins that do what real ones do on a bad day: shell scripts, each named
//! after what it stands for. What well-behaved ones are told is looked at too.

mod lab;

mod bad_days;
mod chains;
mod gc;
