//! What the sessions of Exec, Attach and PortForward are to be.

use super::check::{id, refuse, texts};
use crate::engine::session::{AttachSession, ExecSession, PortForwardSession, Wants};
use crate::error::{Error, Result};
use corten_proto::runtime::v1;

impl TryFrom<v1::ExecRequest> for ExecSession {
    type Error = Error;

    fn try_from(asked: v1::ExecRequest) -> Result<Self> {
        let command = texts(asked.cmd, "cmd")?;
        if command.is_empty() {
            return Err(refuse("cmd", "must not be empty"));
        }
        Ok(Self {
            container: id(asked.container_id, "container_id")?,
            command,
            wants: checked(Wants {
                stdin: asked.stdin,
                stdout: asked.stdout,
                stderr: asked.stderr,
                tty: asked.tty,
            })?,
        })
    }
}

impl TryFrom<v1::AttachRequest> for AttachSession {
    type Error = Error;

    fn try_from(asked: v1::AttachRequest) -> Result<Self> {
        Ok(Self {
            container: id(asked.container_id, "container_id")?,
            wants: checked(Wants {
                stdin: asked.stdin,
                stdout: asked.stdout,
                stderr: asked.stderr,
                tty: asked.tty,
            })?,
        })
    }
}

impl TryFrom<v1::PortForwardRequest> for PortForwardSession {
    type Error = Error;

    fn try_from(asked: v1::PortForwardRequest) -> Result<Self> {
        let ports = asked.port.into_iter().map(port);
        Ok(Self {
            sandbox: id(asked.pod_sandbox_id, "pod_sandbox_id")?,
            ports: ports.collect::<Result<_>>()?,
        })
    }
}

fn checked(wants: Wants) -> Result<Wants> {
    if !(wants.stdin || wants.stdout || wants.stderr) {
        return Err(refuse(
            "stdin, stdout, stderr",
            "one of them must be asked for",
        ));
    }
    if wants.tty && wants.stderr {
        return Err(refuse("stderr", "a terminal has none: tty is set"));
    }
    Ok(wants)
}

fn port(number: i32) -> Result<u16> {
    match u16::try_from(number) {
        Ok(port @ 1..) => Ok(port),
        _ => Err(refuse(
            "port",
            format!("{number} is not between 1 and 65535"),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;

    fn exec() -> v1::ExecRequest {
        v1::ExecRequest {
            container_id: "c".into(),
            cmd: vec!["ls".into()],
            stdout: true,
            ..Default::default()
        }
    }

    fn attach() -> v1::AttachRequest {
        v1::AttachRequest {
            container_id: "c".into(),
            stdin: true,
            ..Default::default()
        }
    }

    fn forward(port: Vec<i32>) -> Result<PortForwardSession> {
        let pod_sandbox_id = "p".into();
        v1::PortForwardRequest {
            pod_sandbox_id,
            port,
        }
        .try_into()
    }

    #[track_caller]
    fn refused<T: std::fmt::Debug>(result: Result<T>, field: &str) {
        let error = result.unwrap_err();
        assert_eq!(error.kind(), Kind::InvalidArgument);
        assert!(error.to_string().starts_with(field), "{error}");
    }

    #[test]
    fn an_exec_needs_a_container_a_command_and_a_stream() {
        let take = |asked: v1::ExecRequest| ExecSession::try_from(asked);
        let good = take(exec()).unwrap();
        assert!(good.wants.stdout && !good.wants.stdin && !good.wants.tty);
        let with = |change: fn(&mut v1::ExecRequest)| {
            let mut asked = exec();
            change(&mut asked);
            take(asked)
        };
        refused(with(|e| e.container_id.clear()), "container_id");
        refused(with(|e| e.cmd.clear()), "cmd");
        refused(with(|e| e.cmd = vec!["a\0b".into()]), "cmd");
        refused(with(|e| e.stdout = false), "stdin, stdout, stderr");
        refused(with(|e| (e.tty, e.stderr) = (true, true)), "stderr");
        assert!(with(|e| (e.tty, e.stdin) = (true, true)).is_ok());
    }

    #[test]
    fn an_attach_needs_a_container_and_a_stream() {
        let take = |asked: v1::AttachRequest| AttachSession::try_from(asked);
        assert!(take(attach()).unwrap().wants.stdin);
        let nothing = v1::AttachRequest {
            stdin: false,
            ..attach()
        };
        refused(take(nothing), "stdin, stdout, stderr");
        let both = v1::AttachRequest {
            tty: true,
            stderr: true,
            ..attach()
        };
        refused(take(both), "stderr");
        let nobody = v1::AttachRequest {
            container_id: String::new(),
            ..attach()
        };
        refused(take(nobody), "container_id");
    }

    #[test]
    fn ports_are_ports_and_may_be_named_later() {
        assert!(forward(vec![]).unwrap().ports.is_empty());
        assert_eq!(forward(vec![80, 65_535]).unwrap().ports, [80, 65_535]);
        for wrong in [0, -1, 65_536] {
            refused(forward(vec![80, wrong]), "port");
        }
        let nobody = v1::PortForwardRequest::default();
        refused(PortForwardSession::try_from(nobody), "pod_sandbox_id");
    }
}
