//! Chains of iptables by its program: for its legacy variant, and for conditions that only it reads.

use std::process::{Command, Output};

use super::placed::Placed;
use super::{Chain, Parents, program_path};
use crate::bundled::fault::{Doing, Outcome};
use crate::error::PluginError;

/// How the program says that there is no such rule, chain or table. (A rule that leads to a chain which
/// is not there is told as a target that cannot be loaded.)
const ABSENT: [&str; 4] = [
    "No chain/target/match by that name",
    "does a matching rule exist in that chain",
    "does not exist",
    "Couldn't load target",
];

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
        // Its words are read below.
        command.env("LC_ALL", "C");
        command.output().doing(|| format!("run {}", self.name))
    }

    fn demand(&self, words: &[String]) -> Outcome<Output> {
        let output = self.run(words)?;
        match output.status.success() {
            true => Ok(output),
            false => Err(self.refused(words, &output)),
        }
    }

    /// False only where the program says that there is no such thing; another failure says nothing of it.
    fn holds(&self, words: &[String]) -> Outcome<bool> {
        let output = self.run(words)?;
        if output.status.success() {
            return Ok(true);
        }
        let told = String::from_utf8_lossy(&output.stderr);
        match ABSENT.iter().any(|words| told.contains(words)) {
            true => Ok(false),
            false => Err(self.refused(words, &output)),
        }
    }

    fn refused(&self, words: &[String], output: &Output) -> PluginError {
        let (name, table, words) = (self.name, self.table, words.join(" "));
        let told = String::from_utf8_lossy(&output.stderr);
        let status = output.status;
        PluginError::internal(format!(
            "{name} -t {table} {words}: {} ({status})",
            told.trim()
        ))
    }

    fn ensure(&self, chain: &str, words: &[String], is_first: bool) -> Outcome<()> {
        match self.holds(&said("-C", chain, words))? {
            true => Ok(()),
            false => self.put(chain, words, is_first),
        }
    }

    fn put(&self, chain: &str, words: &[String], is_first: bool) -> Outcome<()> {
        let verb = if is_first { "-I" } else { "-A" };
        self.demand(&said(verb, chain, words)).map(drop)
    }

    /// One that is there already is as good.
    fn make(&self, chain: &str) -> Outcome<()> {
        let words = said("-N", chain, &[]);
        let output = self.run(&words)?;
        let told = String::from_utf8_lossy(&output.stderr);
        match output.status.success() || told.contains("Chain already exists") {
            true => Ok(()),
            false => Err(self.refused(&words, &output)),
        }
    }

    /// Takes out every rule of `parent` that leads to `chain`.
    fn cut(&self, parent: &str, chain: &str) -> Outcome<()> {
        if !self.holds(&said("-S", parent, &[]))? {
            return Ok(());
        }
        let listed = self.demand(&said("-S", parent, &[]))?;
        for line in String::from_utf8_lossy(&listed.stdout).lines() {
            if let Some(rule) = line.strip_prefix("-A ").filter(|_| leads_to(line, chain)) {
                self.demand(&said("-D", parent, &words(rule)[1..]))?;
            }
        }
        Ok(())
    }
}

fn said(verb: &str, chain: &str, words: &[String]) -> Vec<String> {
    let mut all = vec![verb.to_owned(), chain.to_owned()];
    all.extend_from_slice(words);
    all
}

pub(crate) fn apply(table: &'static str, is_ipv4: bool, chains: &[Chain]) -> Outcome<()> {
    let program = Program::new(table, is_ipv4);
    if program_path(program.name).is_none() {
        let msg = format!(
            "this host has iptables and no {}, which the pod's addresses need: install it, or ask for \
             the backend \"nftables\" in the configuration",
            program.name
        );
        return Err(PluginError::internal(msg));
    }
    for chain in chains {
        program.make(&chain.name)?;
        match chain.is_shared {
            true => share(&program, chain)?,
            false => replace(&program, chain)?,
        }
    }
    Ok(())
}

/// What is there stays, for other pods rest on it.
fn share(program: &Program, chain: &Chain) -> Outcome<()> {
    for rule in &chain.rules {
        program.ensure(&chain.name, &rule.words(), false)?;
    }
    for entry in &chain.entries {
        program.ensure(entry.parent, &entry.rule.words(), entry.is_first)?;
    }
    Ok(())
}

/// What an ADD before this one made goes.
fn replace(program: &Program, chain: &Chain) -> Outcome<()> {
    program.demand(&said("-F", &chain.name, &[]))?;
    for rule in &chain.rules {
        program.put(&chain.name, &rule.words(), false)?;
    }
    for parent in chain.parents() {
        program.cut(parent, &chain.name)?;
    }
    for entry in &chain.entries {
        program.put(entry.parent, &entry.rule.words(), entry.is_first)?;
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
    // Without the program there are no rules of its making.
    if program_path(program.name).is_none() || !program.holds(&said("-S", chain, &[]))? {
        return Ok(());
    }
    for parent in parents {
        program.cut(parent, chain)?;
    }
    program.demand(&said("-F", chain, &[]))?;
    program.demand(&said("-X", chain, &[])).map(drop)
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
