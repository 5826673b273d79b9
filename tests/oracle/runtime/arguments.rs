//! The arguments, as runc and the OCI's own description of a command line have them.

use std::path::PathBuf;

/// What is asked for.
pub enum Command {
    Create(Order),
    Start(String),
    /// The one that `create` starts.
    Pump(String),
    State(String),
    Kill {
        id: String,
        signal: i32,
    },
    Delete {
        id: String,
        force: bool,
    },
}

/// What a container is made of.
pub struct Order {
    pub id: String,
    pub bundle: PathBuf,
    pub pid_file: Option<PathBuf>,
}

/// The directory of all containers, and the command.
pub fn parse(words: impl Iterator<Item = String>) -> Result<(PathBuf, Command), String> {
    let mut parsed = Words::default();
    let mut words = words;
    while let Some(word) = words.next() {
        match word.split_once('=').unwrap_or((&word, "")) {
            ("--force" | "-f", _) => parsed.force = true,
            (name @ ("--root" | "--bundle" | "-b" | "--pid-file" | "--signal"), "") => {
                let value = words.next().ok_or(format!("{name} lacks its value"))?;
                parsed.option(name, value);
            }
            (name, value) if name.starts_with("--") && !value.is_empty() => {
                parsed.option(name, value.to_owned());
            }
            (name, _) if name.starts_with('-') => return Err(format!("no option {name}")),
            _ => parsed.plain.push(word),
        }
    }
    parsed.command()
}

#[derive(Default)]
struct Words {
    root: Option<PathBuf>,
    bundle: Option<PathBuf>,
    pid_file: Option<PathBuf>,
    signal: Option<String>,
    force: bool,
    plain: Vec<String>,
}

impl Words {
    fn option(&mut self, name: &str, value: String) {
        match name {
            "--root" => self.root = Some(value.into()),
            "--pid-file" => self.pid_file = Some(value.into()),
            "--signal" => self.signal = Some(value),
            _ => self.bundle = Some(value.into()),
        }
    }

    fn command(self) -> Result<(PathBuf, Command), String> {
        let root = self
            .root
            .or_else(|| Some(std::env::var_os("CORTEN_OCI_ROOT")?.into()));
        let root = root.unwrap_or_else(|| "/run/corten-oci".into());
        let mut plain = self.plain.into_iter();
        let verb = plain.next().ok_or("which command?")?;
        let id = plain.next().filter(|id| !id.is_empty());
        let id = id.ok_or(format!("{verb} needs a container's id"))?;
        let command = match verb.as_str() {
            "create" => Command::Create(Order {
                id,
                bundle: self.bundle.unwrap_or_else(|| ".".into()),
                pid_file: self.pid_file,
            }),
            "start" => Command::Start(id),
            "pump" => Command::Pump(id),
            "state" => Command::State(id),
            "kill" => Command::Kill {
                id,
                signal: signal(&plain.next().or(self.signal).unwrap_or("TERM".to_owned()))?,
            },
            "delete" => Command::Delete {
                id,
                force: self.force,
            },
            other => return Err(format!("no command {other}")),
        };
        Ok((root, command))
    }
}

/// The signals by their numbers from 1.
const SIGNALS: [&str; 31] = [
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2",
    "PIPE", "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG",
    "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
];

fn signal(word: &str) -> Result<i32, String> {
    let name = word.strip_prefix("SIG").unwrap_or(word);
    let by_name = SIGNALS.iter().zip(1..).find(|(known, _)| **known == name);
    by_name
        .map(|(_, number)| number)
        .or_else(|| word.parse().ok())
        .ok_or(format!("no signal {word}"))
}
