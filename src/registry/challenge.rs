//! `WWW-Authenticate`: what a registry wants to see (RFC 9110 §11.6.1, the distribution project's
//! token authentication). Several challenges may stand in one header and in several.

use std::collections::BTreeMap;

/// One challenge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Challenge {
    /// `bearer`, `basic`, …, in lower case.
    pub scheme: String,
    /// Parameters by lower-case name.
    pub parameters: BTreeMap<String, String>,
}

/// Reads a header's challenges; what cannot be read ends the list.
pub(super) fn parse(header: &str) -> Vec<Challenge> {
    let mut challenges: Vec<Challenge> = Vec::new();
    let mut rest = header.trim_start();
    while let Some((word, after)) = token(rest) {
        let after = after.trim_start();
        if let Some(value) = after.strip_prefix('=') {
            let Some((value, after)) = parameter(value.trim_start()) else {
                break;
            };
            let Some(challenge) = challenges.last_mut() else {
                break;
            };
            challenge
                .parameters
                .insert(word.to_ascii_lowercase(), value);
            rest = after;
        } else {
            challenges.push(Challenge {
                scheme: word.to_ascii_lowercase(),
                parameters: BTreeMap::new(),
            });
            rest = after;
        }
        rest = rest.trim_start_matches([' ', ',', '\t']);
    }
    challenges
}

/// A word of token characters.
fn token(text: &str) -> Option<(&str, &str)> {
    let end = text
        .find(|c: char| !(c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c)))
        .unwrap_or(text.len());
    (end > 0).then(|| text.split_at(end))
}

/// A quoted string or a token; some registries leave the quotes out around URLs.
fn parameter(text: &str) -> Option<(String, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([',', ' ']).unwrap_or(text.len());
        return Some((text[..end].to_owned(), &text[end..]));
    };
    let mut value = String::new();
    let mut characters = quoted.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Some((value, &quoted[at + 1..])),
            '\\' => value.push(characters.next()?.1),
            other => value.push(other),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(scheme: &str, parameters: &[(&str, &str)]) -> Challenge {
        let pairs = parameters
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Challenge {
            scheme: scheme.into(),
            parameters: pairs.collect(),
        }
    }

    #[test]
    fn challenges_are_read() {
        let header = r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:a/b:pull,push""#;
        let bearer = one(
            "bearer",
            &[
                ("realm", "https://auth.docker.io/token"),
                ("service", "registry.docker.io"),
                ("scope", "repository:a/b:pull,push"),
            ],
        );
        assert_eq!(parse(header), [bearer]);
        assert_eq!(
            parse(r#"Basic realm="a \"b\" c""#),
            [one("basic", &[("realm", "a \"b\" c")])]
        );
        assert_eq!(
            parse(r#"Negotiate, Basic realm=x , BEARER Realm="r""#),
            [
                one("negotiate", &[]),
                one("basic", &[("realm", "x")]),
                one("bearer", &[("realm", "r")])
            ]
        );
    }

    #[test]
    fn broken_challenges_end_the_list() {
        assert_eq!(parse(""), []);
        assert_eq!(parse("realm=\"x\""), []);
        assert_eq!(parse("Bearer realm=\"open"), [one("bearer", &[])]);
        assert_eq!(parse("Basic \u{1F600}"), [one("basic", &[])]);
    }
}
