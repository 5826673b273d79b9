//! What a source file names: modules of its own crate, other crates, `unsafe`, modules it declares,
//! and arms that catch whatever is left.
//!
//! It reads tokens, so that nothing in a comment or a string counts, and what is inside a macro
//! does. Items under `#[cfg(test)]` are left out: tests may join what the product keeps apart.

use proc_macro2::{Delimiter, Group, Span, TokenStream, TokenTree};
use std::path::Path;

/// A name and the line that it is on.
pub type Named = (String, usize);

/// What one file names.
#[derive(Debug, Default)]
pub struct Names {
    /// The first component of every path that leads to the crate's own root.
    pub rooms: Vec<Named>,
    /// The first component of what is imported from outside, and every crate of [`WATCHED`].
    pub crates: Vec<Named>,
    /// Modules that are declared here.
    pub modules: Vec<Named>,
    /// Lines with the keyword `unsafe`.
    pub unsafes: Vec<usize>,
    /// Lines with an arm that matches everything that is left, whatever it is.
    pub catch_alls: Vec<usize>,
}

/// Crates that are noticed wherever they are named, not only in a `use`.
const WATCHED: [&str; 5] = [
    "tonic",
    "tonic_prost",
    "corten_proto",
    "corten_shim",
    "corten_cni",
];

/// Reads a file's text. `path` is relative to the crate's `src`, such as `task/shim.rs`.
pub fn scan(path: &Path, text: &str) -> Result<Names, String> {
    let tokens: TokenStream = text
        .parse()
        .map_err(|error| format!("{}: {error}", path.display()))?;
    let mut names = Names::default();
    walk(&list(tokens), &module_of(path), &mut names);
    Ok(names)
}

/// `task/mod.rs` is the module `task`, `task/shim.rs` is `task::shim`, `lib.rs` is the root.
fn module_of(path: &Path) -> Vec<String> {
    let text = |part: std::path::Component<'_>| part.as_os_str().to_string_lossy().into_owned();
    let mut module: Vec<String> = path.with_extension("").components().map(text).collect();
    if module
        .last()
        .is_some_and(|last| matches!(last.as_str(), "mod" | "lib" | "main"))
    {
        module.pop();
    }
    module
}

fn list(tokens: TokenStream) -> Vec<TokenTree> {
    tokens.into_iter().collect()
}

fn walk(tokens: &[TokenTree], module: &[String], names: &mut Names) {
    let mut at = 0;
    while at < tokens.len() {
        if is_test_attribute(tokens, at) {
            at = after_item(tokens, at);
            continue;
        }
        at += match &tokens[at] {
            TokenTree::Group(group) => {
                walk(&list(group.stream()), module, names);
                1
            }
            TokenTree::Ident(ident) => word(tokens, at, &ident.to_string(), module, names),
            TokenTree::Punct(_) | TokenTree::Literal(_) => 1,
        };
    }
}

/// Takes a word in; tells how many tokens were used.
fn word(
    tokens: &[TokenTree],
    at: usize,
    word: &str,
    module: &[String],
    names: &mut Names,
) -> usize {
    let line = line(tokens[at].span());
    let begins_a_path = !is_path_separator(tokens, at.wrapping_sub(2));
    match word {
        "unsafe" => names.unsafes.push(line),
        "crate" if begins_a_path => add_heads(tokens, at + 1, &mut names.rooms),
        "super" if begins_a_path => climb(tokens, at, module, names),
        "use" => imported(tokens, at + 1, &mut names.crates),
        "match" => catch_alls(tokens, at, names),
        "mod" => return declared(tokens, at, module, names),
        _ if begins_a_path && WATCHED.contains(&word) => {
            names.crates.push((word.to_owned(), line));
        }
        _ => {}
    }
    1
}

/// `super::super::x` counts where it leads to the root.
fn climb(tokens: &[TokenTree], at: usize, module: &[String], names: &mut Names) {
    let (mut next, mut steps) = (at, 0);
    while ident(tokens, next).as_deref() == Some("super") {
        steps += 1;
        next += if is_path_separator(tokens, next + 1) {
            3
        } else {
            1
        };
    }
    if steps == module.len() && next >= at + 3 {
        add_heads(tokens, next - 2, &mut names.rooms);
    }
}

/// What follows the `::` at `at`: a name, or several in braces.
fn add_heads(tokens: &[TokenTree], at: usize, into: &mut Vec<Named>) {
    if !is_path_separator(tokens, at) {
        return;
    }
    match tokens.get(at + 2) {
        Some(TokenTree::Ident(name)) => into.push((name.to_string(), line(name.span()))),
        Some(TokenTree::Group(group)) => into.extend(heads_of(group)),
        _ => {}
    }
}

/// The first name of each element of a list in braces.
fn heads_of(group: &Group) -> Vec<Named> {
    let tokens = list(group.stream());
    let begins = |at: usize| at == 0 || is_punct(&tokens, at - 1, ',');
    (0..tokens.len())
        .filter(|at| begins(*at))
        .filter_map(|at| Some((ident(&tokens, at)?, line(tokens[at].span()))))
        .collect()
}

/// The crate, or the module in scope, that a `use` begins with.
fn imported(tokens: &[TokenTree], at: usize, into: &mut Vec<Named>) {
    let at = if is_path_separator(tokens, at) {
        at + 2
    } else {
        at
    };
    let heads = match tokens.get(at) {
        Some(TokenTree::Ident(name)) => vec![(name.to_string(), line(name.span()))],
        Some(TokenTree::Group(group)) => heads_of(group),
        _ => Vec::new(),
    };
    let own = |(name, _): &Named| matches!(name.as_str(), "crate" | "self" | "super");
    into.extend(heads.into_iter().filter(|head| !own(head)));
}

fn declared(tokens: &[TokenTree], at: usize, module: &[String], names: &mut Names) -> usize {
    let Some(name) = ident(tokens, at + 1) else {
        return 1;
    };
    names.modules.push((name.clone(), line(tokens[at].span())));
    let Some(TokenTree::Group(body)) = tokens.get(at + 2) else {
        return 2;
    };
    let inner: Vec<String> = module.iter().cloned().chain([name]).collect();
    walk(&list(body.stream()), &inner, names);
    3
}

/// Looks at the arms of the `match` at `at`: an arm that is only `_` or a new name, without a
/// condition, takes whatever is left.
fn catch_alls(tokens: &[TokenTree], at: usize, names: &mut Names) {
    let body = tokens[at..].iter().find_map(|token| match token {
        TokenTree::Group(group) if group.delimiter() == Delimiter::Brace => Some(group),
        _ => None,
    });
    let arms = body.map(|group| list(group.stream())).unwrap_or_default();
    for arrow in 1..arms.len() {
        let is_arrow = is_punct(&arms, arrow, '=') && is_punct(&arms, arrow + 1, '>');
        if is_arrow && takes_everything(&arms, arrow - 1) {
            names.catch_alls.push(line(arms[arrow].span()));
        }
    }
}

fn takes_everything(arms: &[TokenTree], at: usize) -> bool {
    let stands_alone = match at.checked_sub(1).map(|before| &arms[before]) {
        None => true,
        Some(TokenTree::Punct(punct)) => matches!(punct.as_char(), ',' | '|'),
        Some(TokenTree::Group(group)) => group.delimiter() == Delimiter::Brace,
        Some(_) => false,
    };
    let name = ident(arms, at).unwrap_or_default();
    let binds = name.starts_with(|c: char| c == '_' || c.is_lowercase());
    stands_alone && binds && !matches!(name.as_str(), "true" | "false")
}

fn is_test_attribute(tokens: &[TokenTree], at: usize) -> bool {
    let Some(TokenTree::Group(group)) = tokens.get(at + 1) else {
        return false;
    };
    let text = group.stream().to_string().replace(' ', "");
    is_punct(tokens, at, '#') && text == "cfg(test)"
}

/// The end of the item that the attribute at `at` belongs to: a body in braces, or a semicolon.
fn after_item(tokens: &[TokenTree], at: usize) -> usize {
    let ends = |token: &TokenTree| match token {
        TokenTree::Group(group) => group.delimiter() == Delimiter::Brace,
        TokenTree::Punct(punct) => punct.as_char() == ';',
        TokenTree::Ident(_) | TokenTree::Literal(_) => false,
    };
    let end = tokens[at..].iter().position(ends);
    end.map_or(tokens.len(), |end| at + end + 1)
}

fn ident(tokens: &[TokenTree], at: usize) -> Option<String> {
    match tokens.get(at)? {
        TokenTree::Ident(ident) => Some(ident.to_string()),
        _ => None,
    }
}

fn is_punct(tokens: &[TokenTree], at: usize, wanted: char) -> bool {
    matches!(tokens.get(at), Some(TokenTree::Punct(punct)) if punct.as_char() == wanted)
}

fn is_path_separator(tokens: &[TokenTree], at: usize) -> bool {
    is_punct(tokens, at, ':') && is_punct(tokens, at.wrapping_add(1), ':')
}

fn line(span: Span) -> usize {
    span.start().line
}
