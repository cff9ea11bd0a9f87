//! As much of PromQL as it takes to see what an expression asks for.

/// A metric, and the labels by which it is picked.
#[derive(Debug, PartialEq)]
pub(crate) struct Selector {
    pub(crate) metric: String,
    pub(crate) labels: Vec<String>,
}

/// Words that are followed by labels in brackets.
const GROUPS: [&str; 6] = ["by", "without", "on", "ignoring", "group_left", "group_right"];

/// Words between expressions.
const WORDS: [&str; 8] = ["and", "or", "unless", "offset", "bool", "inf", "nan", "atan2"];

/// What it asks for, and the labels by which it groups and joins.
pub(crate) fn read(expression: &str) -> (Vec<Selector>, Vec<String>) {
    let tokens = tokens(expression);
    let (mut selectors, mut grouped) = (Vec::new(), Vec::new());
    let mut at = 0;
    while at < tokens.len() {
        let next = tokens.get(at + 1).map(String::as_str);
        let token = tokens[at].as_str();
        let word = token.to_lowercase();
        at += 1;
        if GROUPS.contains(&word.as_str()) {
            if next == Some("(") {
                let labels = until(&tokens, at + 1, ")");
                at += labels.len() + 2;
                grouped.extend(labels.iter().filter(|label| *label != ",").cloned());
            }
        } else if is_name(token) && next != Some("(") && !is_function(&tokens, at, &word) {
            let mut labels = Vec::new();
            if next == Some("{") {
                let inside = until(&tokens, at + 1, "}");
                at += inside.len() + 2;
                labels = inside.iter().filter(|part| is_name(part)).cloned().collect();
            }
            selectors.push(Selector { metric: token.to_owned(), labels });
        } else if token == "[" {
            at += until(&tokens, at, "]").len() + 1;
        }
    }
    (selectors, grouped)
}

/// The same with a time where a dashboard has a variable for one.
pub(crate) fn fill_in(expression: &str) -> String {
    let mut text = expression.to_owned();
    for variable in ["$__rate_interval", "$__range", "$__interval"] {
        text = text.replace(variable, "5m");
    }
    text
}

/// `sum by (x) (…)`, or a word between expressions.
fn is_function(tokens: &[String], at: usize, word: &str) -> bool {
    let next = tokens.get(at).map(String::as_str);
    WORDS.contains(&word) || matches!(next, Some("by" | "without"))
}

fn until<'a>(tokens: &'a [String], from: usize, end: &str) -> &'a [String] {
    let rest = &tokens[from..];
    let length = rest.iter().position(|token| token == end);
    &rest[..length.unwrap_or_else(|| panic!("no {end} in {tokens:?}"))]
}

fn is_name(token: &str) -> bool {
    token.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
}

/// Names, numbers and single signs; without blanks and without what stands in quotes.
fn tokens(expression: &str) -> Vec<String> {
    let mut all = Vec::new();
    let mut rest = expression;
    while let Some(first) = rest.chars().next() {
        let length = match first {
            '"' | '\'' => rest[1..].find(first).unwrap_or_else(|| panic!("{expression}")) + 2,
            c if c.is_ascii_alphanumeric() || c == '_' => {
                let inside = |c: char| c.is_ascii_alphanumeric() || "_:.".contains(c);
                rest.find(|c| !inside(c)).unwrap_or(rest.len())
            }
            c => c.len_utf8(),
        };
        let (token, after) = rest.split_at(length);
        if !first.is_whitespace() && !"\"'".contains(first) {
            all.push(token.to_owned());
        }
        rest = after;
    }
    all
}
