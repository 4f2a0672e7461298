//! Where in an expression something stands. The parser keeps no positions, so the text is cut into words and signs here,
//! and whoever walks the parsed expression in the order of its text finds each construct at the next word that spells it.

/// Why an expression is not answered, and the place that it is about.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} at position {position}: {remedy}")]
pub(super) struct Refusal {
    /// What stands there.
    pub(super) what: String,
    /// Character of the expression, counted from 1.
    pub(super) position: usize,
    /// How to go on.
    pub(super) remedy: String,
}

/// A word or a sign.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Token<'a> {
    /// Its kind.
    pub(super) kind: Kind,
    /// Its letters.
    pub(super) text: &'a str,
    /// Its first byte in the expression.
    pub(super) start: usize,
}

/// What a token looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A name or a keyword.
    Word,
    /// Begins with a digit, or with a point and a digit.
    Number,
    /// Between quotes.
    Text,
    /// Quotes that nothing closes.
    OpenText,
    /// Anything else: one character, or two that belong together.
    Sign,
}

/// The tokens of an expression and how far they have been walked.
#[derive(Debug)]
pub(super) struct Places<'a> {
    text: &'a str,
    tokens: Vec<Token<'a>>,
    next: usize,
}

impl<'a> Places<'a> {
    /// Cuts an expression.
    pub(super) fn of(text: &'a str) -> Self {
        Self { text, tokens: tokens(text), next: 0 }
    }

    /// All tokens.
    pub(super) fn tokens(&self) -> &[Token<'a>] {
        &self.tokens
    }

    /// Walks on to behind the next token that `wanted` takes; its position. Where there is none, stays: then the position is
    /// that of what comes next.
    pub(super) fn find(&mut self, wanted: impl Fn(&Token<'_>, Option<&Token<'_>>) -> bool) -> usize {
        let found = (self.next..self.tokens.len())
            .find(|&i| self.tokens.get(i).is_some_and(|token| wanted(token, self.tokens.get(i + 1))));
        let at = found.unwrap_or(self.next);
        self.next = found.map_or(self.next, |found| found + 1);
        self.position(at)
    }

    /// A name that is called: a function or an aggregation.
    pub(super) fn call(&mut self, name: &str) -> usize {
        let opens = |after: &Token<'_>| after.is("(") || after.is_word("by") || after.is_word("without");
        self.find(|token, after| token.is_word(name) && after.is_some_and(opens))
    }

    /// A sign or a keyword.
    pub(super) fn sign(&mut self, text: &str) -> usize {
        self.find(|token, _| token.is(text) || token.is_word(text))
    }

    /// A selector: its name, or its opening brace; walks to behind its braces, range and modifiers.
    pub(super) fn selector(&mut self, name: Option<&str>) -> usize {
        let position = match name {
            Some(name) => self.find(|token, _| token.kind == Kind::Word && token.text == name),
            None => self.sign("{"),
        };
        if name.is_none() || self.tokens.get(self.next).is_some_and(|token| token.is("{")) {
            self.sign("}");
        }
        while self.walk_suffix() {}
        position
    }

    /// Walks over a range or a modifier, whose signs are no operators; whether there was one.
    fn walk_suffix(&mut self) -> bool {
        let rest = self.tokens.get(self.next..).unwrap_or_default();
        let signed = |sign: &Token<'_>| sign.is("+") || sign.is("-");
        let long = match rest {
            [open, inside @ ..] if open.is("[") => {
                let colon = |token: &Token<'_>| token.is(":");
                // A subquery is no part of its selector.
                let end = inside.iter().position(|token| token.is("]") || colon(token));
                end.filter(|&end| !inside.get(end).is_some_and(colon)).map_or(0, |end| end + 2)
            }
            [modifier, sign, ..] if modifier.is("@") || modifier.is_word("offset") => 2 + usize::from(signed(sign)),
            _ => 0,
        };
        self.next += long;
        long > 0
    }

    /// A number.
    pub(super) fn number(&mut self) -> usize {
        self.find(|token, _| token.is_number())
    }

    /// A text.
    pub(super) fn text(&mut self) -> usize {
        self.find(|token, _| token.kind == Kind::Text)
    }

    /// The bracket of a subquery, which holds a colon.
    pub(super) fn subquery(&self) -> usize {
        let colon = (self.next..self.tokens.len()).find(|&i| self.tokens.get(i).is_some_and(|token| token.is(":")));
        let colon = colon.unwrap_or(self.next);
        let bracket = (self.next..colon).rev().find(|&i| self.tokens.get(i).is_some_and(|token| token.is("[")));
        self.position(bracket.unwrap_or(colon))
    }

    /// The position of a token, in characters from 1; behind the last one where there is no such token.
    pub(super) fn position(&self, token: usize) -> usize {
        let start = self.tokens.get(token).map_or(self.text.len(), |token| token.start);
        self.text.get(..start).map_or(0, |before| before.chars().count()) + 1
    }
}

impl Token<'_> {
    /// Whether it is this sign.
    pub(super) fn is(&self, sign: &str) -> bool {
        self.kind == Kind::Sign && self.text == sign
    }

    /// Whether it is a number, written in digits or as a word.
    pub(super) fn is_number(&self) -> bool {
        self.kind == Kind::Number || self.is_word("inf") || self.is_word("nan")
    }

    /// Whether it is this word; keywords are written in capitals too.
    pub(super) fn is_word(&self, word: &str) -> bool {
        self.kind == Kind::Word && self.text.eq_ignore_ascii_case(word)
    }
}

fn tokens(text: &str) -> Vec<Token<'_>> {
    let mut tokens = Vec::new();
    let (mut start, mut in_brackets) = (0, false);
    while let Some(rest) = text.get(start..).filter(|rest| !rest.is_empty()) {
        let skipped = blank(rest);
        if skipped > 0 {
            start += skipped;
            continue;
        }
        let (kind, length) = token(rest, in_brackets);
        let Some(letters) = rest.get(..length) else { break };
        match letters {
            "[" if kind == Kind::Sign => in_brackets = true,
            "]" if kind == Kind::Sign => in_brackets = false,
            _ => {}
        }
        tokens.push(Token { kind, text: letters, start });
        start += length;
    }
    tokens
}

/// How many bytes of blanks and comments a text begins with.
fn blank(text: &str) -> usize {
    let until = |end: Option<usize>| end.unwrap_or(text.len());
    match text.starts_with('#') {
        true => until(text.find('\n')),
        false => until(text.find(|c: char| !c.is_whitespace())),
    }
}

/// Kind and bytes of the token that a text begins with.
fn token(text: &str, in_brackets: bool) -> (Kind, usize) {
    let length = |of: fn(char) -> bool| text.find(|c: char| !of(c)).unwrap_or(text.len());
    let mut letters = text.chars();
    let first = letters.next().unwrap_or_default();
    let second = letters.next().unwrap_or_default();
    match first {
        '"' | '\'' | '`' => quoted(text, first),
        '0'..='9' => (Kind::Number, number(text)),
        '.' if second.is_ascii_digit() => (Kind::Number, number(text)),
        // Between brackets a colon parts range and step; elsewhere it belongs to a name.
        ':' if in_brackets => (Kind::Sign, 1),
        'a'..='z' | 'A'..='Z' | '_' | ':' => {
            (Kind::Word, length(|c| c.is_ascii_alphanumeric() || c == '_' || c == ':'))
        }
        '=' | '!' | '<' | '>' if second == '=' => (Kind::Sign, 2),
        '=' | '!' if second == '~' => (Kind::Sign, 2),
        _ => (Kind::Sign, first.len_utf8()),
    }
}

/// Bytes of a number, or of a length of time such as `1h30m`.
fn number(text: &str) -> usize {
    let hexadecimal = text.starts_with("0x") || text.starts_with("0X");
    let (mut before, mut bytes) = (' ', 0);
    for letter in text.chars() {
        let exponent_sign = matches!(letter, '+' | '-') && matches!(before, 'e' | 'E') && !hexadecimal;
        if !(letter.is_ascii_alphanumeric() || matches!(letter, '.' | '_') || exponent_sign) {
            break;
        }
        before = letter;
        bytes += letter.len_utf8();
    }
    bytes
}

fn quoted(text: &str, quote: char) -> (Kind, usize) {
    let mut escaped = false;
    for (at, letter) in text.char_indices().skip(1) {
        if escaped {
            escaped = false;
        } else if letter == '\\' && quote != '`' {
            escaped = true;
        } else if letter == quote {
            return (Kind::Text, at + quote.len_utf8());
        }
    }
    (Kind::OpenText, text.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(text: &str) -> Vec<&str> {
        tokens(text).iter().map(|token| token.text).collect()
    }

    #[test]
    fn words_numbers_texts_and_signs_are_told_apart() {
        let text = r#"sum by(a) (x:y{b=~"}\"(",c!='[#'}[1h30m:5m]) >= -.5e-3 # rate(x)"#;
        let expected = [
            "sum",
            "by",
            "(",
            "a",
            ")",
            "(",
            "x:y",
            "{",
            "b",
            "=~",
            r#""}\"(""#,
            ",",
            "c",
            "!=",
            "'[#'",
            "}",
            "[",
            "1h30m",
            ":",
            "5m",
            "]",
            ")",
            ">=",
            "-",
            ".5e-3",
        ];
        assert_eq!(texts(text), expected);
        assert_eq!(texts("0x1e-3 `\\` \"open"), ["0x1e", "-", "3", "`\\`", "\"open"]);
    }

    #[test]
    fn each_construct_is_found_where_it_stands() {
        let mut places = Places::of("sum by (rate) (rate{rate=\"ä\"}) + rate(ü[5m])");
        assert_eq!(places.call("sum"), 1);
        assert_eq!(places.selector(Some("rate")), 9);
        let mut places = Places::of("x[5m] @ -5 offset -5m - y[5m:1m] @ end() + 1");
        assert_eq!(places.selector(Some("x")), 1);
        assert_eq!(places.sign("-"), 23);
        assert_eq!((places.selector(Some("y")), places.subquery()), (25, 26));
        assert_eq!(places.sign("+"), 42);
        let mut places = Places::of("{a=\"ä+\"} + rate(x[5m])");
        assert_eq!(places.selector(None), 1);
        assert_eq!(places.sign("+"), 10);
        assert_eq!(places.call("rate"), 12);
        assert_eq!(places.sign("nothing"), 16);
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_cut_to_its_end(text in "\\PC{0,60}") {
            let cut = tokens(&text);
            let inside: usize = cut.iter().map(|token| token.text.len()).sum();
            proptest::prop_assert!(inside <= text.len());
            proptest::prop_assert!(cut.windows(2).all(|pair| pair[0].start + pair[0].text.len() <= pair[1].start));
        }
    }
}
