//! What a client asks to speak, and what it is answered: pure, from the headers of a request.
//!
//! | Upgrade | where the protocol stands | exec, attach | port-forward |
//! |---|---|---|---|
//! | `SPDY/3.1` | `X-Stream-Protocol-Version` | `v4` … `v1.channel.k8s.io`, `channel.k8s.io`, none | `portforward.k8s.io`, none |
//! | `websocket` | `Sec-WebSocket-Protocol` | `v5` … `v1.channel.k8s.io`, `channel.k8s.io`, `v4.base64.…`, `base64.…`, none | `v5`, `v4`, `v4.base64`, `SPDY/3.1+portforward.k8s.io`, none |
//!
//! Who names none is from before there was a choice, and gets the oldest. `v1.channel.k8s.io` is no
//! name of Kubernetes, which has none with a number for its first: it is taken for that.
//!
//! Invariant: of several protocols the first that the client names and this side speaks is taken.

use super::end::Form;
use super::over_spdy::Version;
use super::over_websocket::Spoken;
use super::websocket::channels::Coding;
use crate::engine::session::Kind;
use http::StatusCode;
use http::header::{
    CONNECTION, HeaderMap, HeaderName, HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY,
    SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION, UPGRADE,
};
use tungstenite::handshake::derive_accept_key;

const SPDY: &str = "SPDY/3.1";
const WEBSOCKET: &str = "websocket";
const STREAM_PROTOCOL: HeaderName = HeaderName::from_static("x-stream-protocol-version");
const ACCEPTED_PROTOCOLS: HeaderName =
    HeaderName::from_static("x-accepted-stream-protocol-versions");

/// What will be spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// A command over SPDY.
    SpdyCommand(Version),
    /// A command over WebSocket.
    SocketCommand(Spoken),
    /// Port-forward over SPDY.
    SpdyPorts,
    /// Port-forward over the channels of a WebSocket.
    SocketPorts(Coding),
    /// Port-forward over SPDY inside of a WebSocket.
    TunnelledPorts,
}

impl Protocol {
    /// One word for the log and the metric.
    #[must_use]
    pub fn transport(self) -> &'static str {
        match self {
            Self::SpdyCommand(_) | Self::SpdyPorts => "spdy",
            Self::SocketCommand(_) | Self::SocketPorts(_) => "websocket",
            Self::TunnelledPorts => "spdy_in_websocket",
        }
    }
}

/// What was agreed on.
#[derive(Debug)]
pub struct Agreed {
    /// What will be spoken.
    pub protocol: Protocol,
    /// The answer's headers.
    pub headers: HeaderMap,
}

/// Why nothing was.
#[derive(Debug)]
pub struct Disagreed {
    /// The answer's status.
    pub status: StatusCode,
    /// Its text.
    pub reason: String,
    /// Protocols to be named in its headers.
    pub offered: Vec<&'static str>,
}

impl Disagreed {
    fn malformed(reason: impl Into<String>) -> Self {
        Self {
            status: StatusCode::BAD_REQUEST,
            reason: reason.into(),
            offered: Vec::new(),
        }
    }

    /// The answer's headers: they name the protocols that are offered.
    pub fn headers(&self) -> impl Iterator<Item = (HeaderName, HeaderValue)> {
        let offered = self.offered.iter().copied();
        offered.map(|name| (ACCEPTED_PROTOCOLS, HeaderValue::from_static(name)))
    }
}

const fn spdy(version: u8) -> Protocol {
    Protocol::SpdyCommand(Version(version))
}

const SPDY_COMMAND: &[(&str, Protocol)] = &[
    ("v4.channel.k8s.io", spdy(4)),
    ("v3.channel.k8s.io", spdy(3)),
    ("v2.channel.k8s.io", spdy(2)),
    ("channel.k8s.io", spdy(1)),
    ("v1.channel.k8s.io", spdy(1)),
    ("", spdy(1)),
];
const SPDY_PORTS: &[(&str, Protocol)] = &[
    ("portforward.k8s.io", Protocol::SpdyPorts),
    ("", Protocol::SpdyPorts),
];

const fn socket(coding: Coding, form: Form) -> Protocol {
    Protocol::SocketCommand(Spoken { coding, form })
}

const SOCKET_COMMAND: &[(&str, Protocol)] = &[
    (
        "v5.channel.k8s.io",
        socket(Coding::BinaryHalfClose, Form::Json),
    ),
    ("v4.channel.k8s.io", socket(Coding::Binary, Form::Json)),
    (
        "v4.base64.channel.k8s.io",
        socket(Coding::Base64, Form::Json),
    ),
    ("v3.channel.k8s.io", socket(Coding::Binary, Form::Text)),
    ("v2.channel.k8s.io", socket(Coding::Binary, Form::Text)),
    ("channel.k8s.io", socket(Coding::Binary, Form::Text)),
    ("v1.channel.k8s.io", socket(Coding::Binary, Form::Text)),
    ("base64.channel.k8s.io", socket(Coding::Base64, Form::Text)),
    ("", socket(Coding::Binary, Form::Text)),
];
const SOCKET_PORTS: &[(&str, Protocol)] = &[
    ("SPDY/3.1+portforward.k8s.io", Protocol::TunnelledPorts),
    (
        "v5.channel.k8s.io",
        Protocol::SocketPorts(Coding::BinaryHalfClose),
    ),
    ("v4.channel.k8s.io", Protocol::SocketPorts(Coding::Binary)),
    (
        "v4.base64.channel.k8s.io",
        Protocol::SocketPorts(Coding::Base64),
    ),
    ("", Protocol::SocketPorts(Coding::Binary)),
];

/// Agrees on a protocol.
///
/// # Errors
/// Where the request asks for none, or for none that is spoken here.
pub fn negotiate(kind: Kind, request: &HeaderMap) -> Result<Agreed, Disagreed> {
    let is_ports = kind == Kind::PortForward;
    if asks_for(request, SPDY) {
        over_spdy(request, if is_ports { SPDY_PORTS } else { SPDY_COMMAND })
    } else if asks_for(request, WEBSOCKET) {
        over_websocket(
            request,
            if is_ports {
                SOCKET_PORTS
            } else {
                SOCKET_COMMAND
            },
        )
    } else {
        Err(Disagreed::malformed(format!(
            "a session needs an upgrade of the connection: `Connection: Upgrade` with `Upgrade: {SPDY}` or `Upgrade: {WEBSOCKET}`"
        )))
    }
}

fn over_spdy(
    request: &HeaderMap,
    offered: &'static [(&'static str, Protocol)],
) -> Result<Agreed, Disagreed> {
    let (name, protocol) = choose(words(request, &STREAM_PROTOCOL), offered)?;
    let mut headers = upgrade_to(SPDY);
    if !name.is_empty() {
        headers.insert(STREAM_PROTOCOL, HeaderValue::from_static(name));
    }
    Ok(Agreed { protocol, headers })
}

fn over_websocket(
    request: &HeaderMap,
    offered: &'static [(&'static str, Protocol)],
) -> Result<Agreed, Disagreed> {
    if request.get(SEC_WEBSOCKET_VERSION).is_none_or(|v| v != "13") {
        let why = "the header Sec-WebSocket-Version is missing or not 13";
        return Err(Disagreed::malformed(why));
    }
    let key = request.get(SEC_WEBSOCKET_KEY);
    let key = key.ok_or_else(|| Disagreed::malformed("the header Sec-WebSocket-Key is missing"))?;
    let (name, protocol) = choose(words(request, &SEC_WEBSOCKET_PROTOCOL), offered)?;
    let mut headers = upgrade_to(WEBSOCKET);
    let accept = derive_accept_key(key.as_bytes());
    let accept = HeaderValue::from_str(&accept).expect("base64 is plain text");
    headers.insert(SEC_WEBSOCKET_ACCEPT, accept);
    if !name.is_empty() {
        headers.insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(name));
    }
    Ok(Agreed { protocol, headers })
}

fn upgrade_to(protocol: &'static str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static(protocol));
    headers
}

fn choose(
    mut asked: Vec<&str>,
    offered: &'static [(&'static str, Protocol)],
) -> Result<(&'static str, Protocol), Disagreed> {
    if asked.is_empty() {
        asked.push("");
    }
    let spoken = |name: &&str| offered.iter().find(|(offer, _)| offer == name).copied();
    asked.iter().find_map(spoken).ok_or_else(|| Disagreed {
        status: StatusCode::FORBIDDEN,
        reason: format!(
            "none of the protocols {} is spoken here; offered: {}",
            asked.join(", "),
            names(offered)
        ),
        offered: offered
            .iter()
            .map(|(name, _)| *name)
            .filter(|n| !n.is_empty())
            .collect(),
    })
}

fn names(offered: &[(&'static str, Protocol)]) -> String {
    let names: Vec<&str> = offered.iter().map(|(name, _)| *name).collect();
    names.join(", ").trim_end_matches(", ").to_owned()
}

/// The request asks for an upgrade to this.
fn asks_for(request: &HeaderMap, protocol: &str) -> bool {
    let has = |name, wanted: &str| {
        words(request, &name)
            .iter()
            .any(|word| word.eq_ignore_ascii_case(wanted))
    };
    has(CONNECTION, "upgrade") && has(UPGRADE, protocol)
}

/// The words of a header that is a list, and may come several times.
fn words<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Vec<&'a str> {
    let values = headers.get_all(name).iter();
    let texts = values.filter_map(|value| value.to_str().ok());
    let words = texts.flat_map(|text| text.split(',')).map(str::trim);
    words.filter(|word| !word.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, HeaderValue::from_static(value));
        }
        headers
    }

    const TO_SPDY: [(&str, &str); 2] = [("connection", "Upgrade"), ("upgrade", "SPDY/3.1")];
    const TO_SOCKET: [(&str, &str); 4] = [
        ("connection", "keep-alive, Upgrade"),
        ("upgrade", "WebSocket"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ];

    fn spdy_asking(asked: &'static str) -> HeaderMap {
        headers(&[&TO_SPDY[..], &[("x-stream-protocol-version", asked)]].concat())
    }

    fn socket_asking(asked: &'static str) -> HeaderMap {
        headers(&[&TO_SOCKET[..], &[("sec-websocket-protocol", asked)]].concat())
    }

    #[test]
    fn the_first_that_the_client_names_and_we_speak_is_taken() {
        let agreed = negotiate(
            Kind::Exec,
            &spdy_asking("v5.channel.k8s.io, v3.channel.k8s.io,v4.channel.k8s.io"),
        );
        let agreed = agreed.unwrap();
        assert_eq!(agreed.protocol, spdy(3));
        assert_eq!(agreed.headers[&STREAM_PROTOCOL], "v3.channel.k8s.io");
        assert_eq!(agreed.headers[UPGRADE], "SPDY/3.1");

        let agreed = negotiate(Kind::Attach, &socket_asking("x, v5.channel.k8s.io")).unwrap();
        assert_eq!(agreed.protocol, socket(Coding::BinaryHalfClose, Form::Json));
        // The key and the answer of RFC 6455, 1.3.
        assert_eq!(
            agreed.headers[SEC_WEBSOCKET_ACCEPT],
            "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
        );
        let agreed = negotiate(
            Kind::PortForward,
            &socket_asking("SPDY/3.1+portforward.k8s.io"),
        );
        assert_eq!(agreed.unwrap().protocol, Protocol::TunnelledPorts);
    }

    #[test]
    fn a_websocket_that_names_none_has_the_oldest() {
        let agreed = negotiate(Kind::Exec, &headers(&TO_SOCKET)).unwrap();
        assert_eq!(agreed.protocol, socket(Coding::Binary, Form::Text));
        assert!(!agreed.headers.contains_key(SEC_WEBSOCKET_PROTOCOL));
    }

    #[test]
    fn spdy_without_a_version_is_the_oldest() {
        for (kind, oldest) in [
            (Kind::Exec, spdy(1)),
            (Kind::Attach, spdy(1)),
            (Kind::PortForward, Protocol::SpdyPorts),
        ] {
            let agreed = negotiate(kind, &headers(&TO_SPDY)).unwrap();
            assert_eq!(agreed.protocol, oldest);
            assert!(!agreed.headers.contains_key(STREAM_PROTOCOL));
        }
        let agreed = negotiate(Kind::Exec, &spdy_asking("v1.channel.k8s.io")).unwrap();
        assert_eq!(agreed.protocol, spdy(1));
        assert_eq!(agreed.headers[&STREAM_PROTOCOL], "v1.channel.k8s.io");
    }

    #[test]
    fn an_unknown_protocol_is_told_what_is_offered() {
        let refused = negotiate(Kind::Exec, &spdy_asking("v9.channel.k8s.io")).unwrap_err();
        assert_eq!(refused.status, StatusCode::FORBIDDEN);
        assert!(refused.reason.contains("v9.channel.k8s.io"));
        assert!(refused.reason.contains("v4.channel.k8s.io, v3"));
        assert_eq!(refused.headers().count(), 5);
        let refused = negotiate(Kind::PortForward, &socket_asking("v1.channel.k8s.io"));
        assert!(refused.unwrap_err().reason.contains("SPDY/3.1+portforward"));
        // What exec speaks, port-forward does not.
        assert!(negotiate(Kind::PortForward, &spdy_asking("v4.channel.k8s.io")).is_err());
    }

    #[test]
    fn what_is_missing_is_named() {
        let refused = |pairs| negotiate(Kind::Exec, &headers(pairs)).unwrap_err();
        let no_upgrade = refused(&[]);
        assert_eq!(no_upgrade.status, StatusCode::BAD_REQUEST);
        assert!(no_upgrade.reason.contains("SPDY/3.1") && no_upgrade.reason.contains("websocket"));
        assert!(
            refused(&[("upgrade", "SPDY/3.1")])
                .reason
                .contains("Connection")
        );
        assert!(
            refused(&TO_SOCKET[..2])
                .reason
                .contains("Sec-WebSocket-Version")
        );
        assert!(
            refused(&TO_SOCKET[..3])
                .reason
                .contains("Sec-WebSocket-Key")
        );
    }
}
