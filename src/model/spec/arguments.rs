//! What is executed: arguments, environment, working directory.

use super::SpecInputs;
use crate::error::{Error, Result};
use std::path::{Path, PathBuf};

const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A command takes the place of the image's entrypoint and drops the image's arguments with it;
/// arguments take the place of the image's arguments only.
pub fn args(inputs: &SpecInputs<'_>) -> Result<Vec<String>> {
    let (config, image) = (inputs.config, inputs.image);
    let (program, rest) = match (config.command.is_empty(), config.args.is_empty()) {
        (false, _) => (&config.command, &config.args),
        (true, false) => (&image.entrypoint, &config.args),
        (true, true) => (&image.entrypoint, &image.cmd),
    };
    let args: Vec<String> = program.iter().chain(rest).cloned().collect();
    match args.first() {
        None => Err(Error::invalid(
            "command: neither the container nor its image says what to run",
        )),
        Some(first) if first.is_empty() => {
            Err(Error::invalid("command: the program's name is empty"))
        }
        Some(_) => no_nul("command", &args).map(|()| args),
    }
}

/// The image's environment, the pod's host name, then the container's: the later wins.
pub fn env(inputs: &SpecInputs<'_>) -> Result<Vec<String>> {
    let mut env = Environment::default();
    env.set("PATH", DEFAULT_PATH);
    if inputs.config.tty {
        env.set("TERM", "xterm");
    }
    // An image's entry without a value means nothing to a process.
    for (name, value) in inputs.image.env.iter().filter_map(|e| e.split_once('=')) {
        env.set(name, value);
    }
    env.set("HOSTNAME", inputs.hostname);
    for (name, value) in &inputs.config.envs {
        if name.is_empty() || name.contains('=') {
            return Err(Error::invalid(format!("envs: {name:?} is no name")));
        }
        env.set(name, value);
    }
    let env = env.lines();
    no_nul("envs", &env).map(|()| env)
}

/// Always absolute: an image's relative one is meant from the root.
pub fn working_dir(inputs: &SpecInputs<'_>) -> Result<PathBuf> {
    let wanted = match inputs.config.working_dir.is_empty() {
        true => &inputs.image.working_dir,
        false => &inputs.config.working_dir,
    };
    no_nul("working_dir", std::slice::from_ref(wanted))?;
    Ok(Path::new("/").join(wanted))
}

fn no_nul(field: &str, texts: &[String]) -> Result<()> {
    match texts.iter().any(|text| text.contains('\0')) {
        true => Err(Error::invalid(format!("{field} holds a NUL byte"))),
        false => Ok(()),
    }
}

/// Variables in the order in which they first appeared.
#[derive(Default)]
struct Environment(Vec<(String, String)>);

impl Environment {
    fn set(&mut self, name: &str, value: &str) {
        match self.0.iter_mut().find(|(known, _)| known == name) {
            Some((_, old)) => value.clone_into(old),
            None => self.0.push((name.to_owned(), value.to_owned())),
        }
    }

    fn lines(self) -> Vec<String> {
        let line = |(name, value)| format!("{name}={value}");
        self.0.into_iter().map(line).collect()
    }
}
