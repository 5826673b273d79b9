//! Chains of iptables by its program: for its legacy variant, and for conditions that only it reads.

use std::process::{Command, Output};

use super::placed::Placed;
use super::{Chain, Parents};
use crate::bundled::fault::{Doing, Outcome};
use crate::error::PluginError;

struct Program {
    name: &'static str,
    table: &'static str,
}

impl Program {
    fn new(table: &'static str, is_ipv4: bool) -> Self {
        let name = if is_ipv4 { "iptables" } else { "ip6tables" };
        Self { name, table }
    }

    /// Waits for its turn: other programs change rules too.
    fn run(&self, words: &[String]) -> Outcome<Output> {
        let mut command = Command::new(self.name);
        command.args(["-w", "-t", self.table]).args(words);
        command.output().doing(|| format!("run {}", self.name))
    }

    fn demand(&self, words: &[String]) -> Outcome<()> {
        let output = self.run(words)?;
        if output.status.success() {
            return Ok(());
        }
        let told = String::from_utf8_lossy(&output.stderr);
        let msg = format!(
            "{} -t {} {}: {}",
            self.name,
            self.table,
            words.join(" "),
            told.trim()
        );
        Err(PluginError::internal(msg))
    }

    fn holds(&self, words: &[String]) -> Outcome<bool> {
        Ok(self.run(words)?.status.success())
    }

    fn ensure(&self, chain: &str, words: &[String], is_first: bool) -> Outcome<()> {
        if self.holds(&said("-C", chain, words))? {
            return Ok(());
        }
        self.demand(&said(if is_first { "-I" } else { "-A" }, chain, words))
    }
}

fn said(verb: &str, chain: &str, words: &[String]) -> Vec<String> {
    let mut all = vec![verb.to_owned(), chain.to_owned()];
    all.extend_from_slice(words);
    all
}

pub(crate) fn apply(table: &'static str, is_ipv4: bool, chains: &[Chain]) -> Outcome<()> {
    let program = Program::new(table, is_ipv4);
    for chain in chains {
        // One that is there already is as good.
        program.run(&said("-N", &chain.name, &[]))?;
        for rule in &chain.rules {
            program.ensure(&chain.name, &rule.words(), false)?;
        }
        for entry in &chain.entries {
            program.ensure(entry.parent, &entry.rule.words(), entry.is_first)?;
        }
    }
    Ok(())
}

pub(crate) fn remove(
    table: &'static str,
    is_ipv4: bool,
    chain: &str,
    parents: Parents<'_>,
) -> Outcome<()> {
    let program = Program::new(table, is_ipv4);
    if !program.holds(&said("-S", chain, &[]))? {
        return Ok(());
    }
    for parent in parents {
        let listed = program.run(&said("-S", parent, &[]))?;
        for line in String::from_utf8_lossy(&listed.stdout).lines() {
            if let Some(rule) = line.strip_prefix("-A ").filter(|_| leads_to(line, chain)) {
                let words = words(rule);
                program.demand(&said("-D", parent, &words[1..]))?;
            }
        }
    }
    program.demand(&said("-F", chain, &[]))?;
    program.demand(&said("-X", chain, &[]))
}

pub(crate) fn missing(
    table: &'static str,
    is_ipv4: bool,
    chain: &Chain,
) -> Outcome<Option<String>> {
    let program = Program::new(table, is_ipv4);
    let own = chain.rules.iter().map(|rule| (chain.name.as_str(), rule));
    let entries = chain
        .entries
        .iter()
        .map(|entry| (entry.parent, &entry.rule));
    for (parent, rule) in own.chain(entries) {
        if !program.holds(&said("-C", parent, &rule.words()))? {
            return Ok(Some(format!(
                "rule {:?} in chain {parent} not found in table {table}",
                rule.words()
            )));
        }
    }
    Ok(None)
}

/// Makes the chains that are missing, and the rules.
pub(super) fn ensure(
    table: &'static str,
    is_ipv4: bool,
    chains: &[&str],
    rules: &[Placed],
) -> Outcome<()> {
    let program = Program::new(table, is_ipv4);
    for chain in chains {
        if !program.holds(&said("-S", chain, &[]))? {
            program.demand(&said("-N", chain, &[]))?;
        }
    }
    for placed in rules {
        program.ensure(&placed.chain, &placed.rule.words(), placed.is_first)?;
    }
    Ok(())
}

/// Takes out the rules that are there.
pub(super) fn delete(table: &'static str, is_ipv4: bool, rules: &[Placed]) -> Outcome<()> {
    let program = Program::new(table, is_ipv4);
    for placed in rules {
        let words = placed.rule.words();
        while program.holds(&said("-C", &placed.chain, &words))? {
            program.demand(&said("-D", &placed.chain, &words))?;
        }
    }
    Ok(())
}

/// The first that is missing.
pub(super) fn first_missing<'r>(
    table: &'static str,
    is_ipv4: bool,
    rules: &'r [Placed],
) -> Outcome<Option<&'r Placed>> {
    let program = Program::new(table, is_ipv4);
    for placed in rules {
        if !program.holds(&said("-C", &placed.chain, &placed.rule.words()))? {
            return Ok(Some(placed));
        }
    }
    Ok(None)
}

fn leads_to(line: &str, chain: &str) -> bool {
    line.ends_with(&format!("-j {chain}")) || line.contains(&format!("-j {chain} "))
}

/// The words of a line as the program prints it: quoted with `"`, inside of which `\` escapes.
fn words(line: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut is_quoted = false;
    let mut letters = line.chars();
    while let Some(letter) = letters.next() {
        let word = words.last_mut().expect("there is a first word");
        match letter {
            '"' => is_quoted = !is_quoted,
            '\\' if is_quoted => word.extend(letters.next()),
            ' ' if !is_quoted => words.push(String::new()),
            letter => word.push(letter),
        }
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_told_as_the_shell_would() {
        let line = r#"POSTROUTING -s 10.1.2.3/32 -m comment --comment "name: \"pods\" id: \"a\"" -j CNI-1"#;
        let words = words(line);
        assert_eq!(words[6], r#"name: "pods" id: "a""#);
        assert_eq!(words.len(), 9);
        assert!(leads_to(line, "CNI-1") && !leads_to(line, "CNI-"));
    }
}
