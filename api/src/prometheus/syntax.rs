//! Parsing by `promql-parser`, with a place for what it cannot read.
//!
//! The parser says that an expression is wrong, not where. So its grammar is asked again: the first token after which nothing
//! more can follow is the one that is wrong. That is looked for only where parsing has failed, by bisection.

use promql_parser::parser::{self, Expr};

use super::{
    place::{Kind, Places, Refusal, Token},
    plan::refusal,
};

/// Longest expression; a dashboard's list of devices as one pattern fits.
const BYTES_MAX: usize = 64 * 1024;
/// Most words and signs of an expression: bounds how deep it can nest, and so the stack that walking it takes.
const TOKENS_MAX: usize = 1000;
/// Longest length of time that is written as a bare number of seconds: a thousand years.
const SECONDS_MAX: f64 = 31_557_600_000.0;
/// What the parser says where the grammar does not go on.
const NO_EXPRESSION: &str = "invalid promql query";

/// Parses an expression, and cuts it for finding places.
pub(super) fn parse(text: &str) -> Result<(Expr, Places<'_>), Refusal> {
    if text.len() > BYTES_MAX {
        return Err(refusal("an expression too long", 1, format!("it may have {BYTES_MAX} bytes")));
    }
    let places = Places::of(text);
    check_tokens(&places)?;
    match parser::parse(text) {
        Ok(expression) => Ok((expression, places)),
        Err(reason) => Err(located(text, &places, &reason)),
    }
}

/// What the parser would fall over or take for something else.
fn check_tokens(places: &Places<'_>) -> Result<(), Refusal> {
    let tokens = places.tokens();
    if tokens.is_empty() {
        return Err(refusal("no expression", 1, "name a signal, such as inlet_c"));
    }
    if tokens.len() > TOKENS_MAX {
        let position = places.position(TOKENS_MAX);
        return Err(refusal("an expression too long", position, format!("it may have {TOKENS_MAX} words and signs")));
    }
    for (place, token) in tokens.iter().enumerate() {
        if token.kind == Kind::OpenText {
            return Err(refusal("a text without end", places.position(place), "close its quotes"));
        }
        if token.is_number() && is_length(tokens, place) && !can_be_length(token.text) {
            return Err(refusal(
                format!("length {:?}", token.text),
                places.position(place),
                "write it as 30s, 5m or 1h",
            ));
        }
    }
    Ok(())
}

/// Whether a length of time is expected there: a range, the step of a subquery, an offset.
fn is_length(tokens: &[Token<'_>], place: usize) -> bool {
    match tokens.get(..place).unwrap_or_default() {
        [.., offset, sign] if sign.is("-") || sign.is("+") => offset.is_word("offset"),
        [.., before] => before.is("[") || before.is(":") || before.is_word("offset"),
        [] => false,
    }
}

/// Whether the parser can make a length of time of it. It would panic on seconds that no length can hold; what is written
/// with a unit or a radix is never so long.
fn can_be_length(number: &str) -> bool {
    number.parse::<f64>().map_or(true, |seconds| (0.0..=SECONDS_MAX).contains(&seconds))
}

fn located(text: &str, places: &Places<'_>, reason: &str) -> Refusal {
    let tokens = places.tokens();
    let grammatical = reason != NO_EXPRESSION && parser::lexer(text).is_ok();
    let can_go_on = |count: usize| beginnings(text, tokens, count).any(|whole| may_be(&whole, grammatical));
    let counts: Vec<usize> = (1..=tokens.len()).collect();
    let wrong = counts.partition_point(|&count| can_go_on(count));
    let named = reason.split('\'').nth(1).and_then(|name| last_call(tokens, wrong, name));
    let place = named.unwrap_or(wrong);
    let position = places.position(place);
    match tokens.get(place) {
        _ if grammatical => refusal("no valid expression", position, reason),
        Some(token) => {
            refusal(format!("unexpected {:?}", token.text), position, "the expression does not go on like this")
        }
        None => refusal("unexpected end", position, "the expression is not complete"),
    }
}

/// The last call of a function up to a token.
fn last_call(tokens: &[Token<'_>], until: usize, name: &str) -> Option<usize> {
    let calls = tokens.windows(2).take(until + 1);
    let mut calls =
        calls.enumerate().filter(|(_, pair)| matches!(pair, [call, open] if call.is_word(name) && open.is("(")));
    calls.next_back().map(|(place, _)| place)
}

/// The first `count` tokens, each with something behind them that an expression could end in.
fn beginnings(text: &str, tokens: &[Token<'_>], count: usize) -> impl Iterator<Item = String> {
    const ENDS: [&str; 16] = [
        "", "x", "x[1m]", "1", "1, x", "1m", "[1m]", ":1m", "\"x\"", "=\"x\"", "(x)", "(x[1m])", "(x) (x)", "(x) x",
        ") (x)", ") x",
    ];
    let known = tokens.get(..count).unwrap_or_default();
    let end = known.last().map_or(0, |token| token.start + token.text.len());
    let beginning = text.get(..end).unwrap_or_default().to_owned();
    let mut open: Vec<&str> = Vec::new();
    for token in known.iter().filter(|token| token.kind == Kind::Sign) {
        match token.text {
            "(" => open.push(")"),
            "[" => open.push("]"),
            "{" => open.push("}"),
            ")" | "]" | "}" => drop(open.pop()),
            _ => {}
        }
    }
    open.reverse();
    ENDS.into_iter().map(move |end| {
        // An end that closes a parenthesis itself leaves one less to close.
        let closed = usize::from(end.starts_with(')'));
        format!("{beginning} {end} {}", open.get(closed..).unwrap_or_default().concat())
    })
}

/// Whether a text is an expression; where only its grammar is asked for, whether it could be one but for its types.
fn may_be(text: &str, typed: bool) -> bool {
    match parser::parse(text) {
        Ok(_) => true,
        Err(reason) => !typed && reason != NO_EXPRESSION && parser::lexer(text).is_ok(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn check(text: &str, position: usize, says: &str) {
        let refused = parse(text).map(|_| ()).unwrap_err();
        assert!(refused.to_string().contains(says), "{text:?}: {refused}");
        assert_eq!(refused.position, position, "{text:?}: {refused}");
    }

    #[test]
    fn what_the_parser_cannot_read_is_said_with_its_place() {
        check("", 1, "no expression");
        check("  # nothing", 1, "no expression");
        check("1 + * 2", 5, "unexpected \"*\"");
        check("sum(x) y", 8, "unexpected \"y\"");
        check("sum(x", 6, "unexpected end");
        check("x{a=\"b\"", 8, "unexpected end");
        check("x{a=}", 5, "unexpected \"}\"");
        check("x[5m", 5, "unexpected end");
        check("x[5q]", 3, "unexpected \"5q\"");
        check("avg_over_time(x[5m])) + 1", 21, "unexpected \")\"");
        check("x ! y", 3, "unexpected \"!\"");
        check("sum by (a) (x) by (b)", 16, "unexpected \"by\"");
        check("ä + 1", 1, "unexpected \"ä\"");
        check("x{a=\"b} + 1", 5, "a text without end");
    }

    #[test]
    fn what_is_no_valid_expression_is_said_with_its_place() {
        check("1 + foo(x)", 5, "unknown function with name 'foo'");
        check("avg_over_time(x[5m]) + avg_over_time(x)", 24, "expected type matrix");
        check("x + {a=\"\"}", 8, "at least one non-empty matcher");
        check("1 == 1", 6, "BOOL");
        check("quantile(x)", 10, "wrong number of arguments");
    }

    #[test]
    fn lengths_that_no_length_can_hold_are_refused() {
        check("x[1e30]", 3, "length");
        check("x offset -1e300", 11, "length");
        check("x offset NaN", 10, "length");
        check("x offset +NaN", 11, "length");
        check("x[inf]", 3, "length");
        check("x[5m:1e99]", 6, "length");
        check("x[1.50x]", 3, "unexpected");
        assert!(parse("x[300]").is_ok());
        assert!(parse("x offset -5m").is_ok());
        assert!(parse("x - 1e30").is_ok(), "what follows a minus is no length in general");
    }

    #[test]
    fn too_long_is_refused_before_it_is_parsed() {
        check(&"-".repeat(1001), 1001, "words and signs");
        check(&" ".repeat(64 * 1024 + 1), 1, "bytes");
        assert!(parse(&format!("{}1", "-".repeat(999))).is_ok());
        assert!(parse(&format!("{}1{}", "(".repeat(499), ")".repeat(499))).is_ok());
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]
        #[test]
        fn no_text_makes_parsing_panic(words in proptest::collection::vec(prop_oneof![
            Just("x"), Just("sum"), Just("by"), Just("rate"), Just("offset"), Just("@"), Just("("), Just(")"), Just("["),
            Just("]"), Just("{"), Just("}"), Just(":"), Just("5m"), Just("1e400"), Just("-"), Just("+"), Just("="),
            Just("=~"), Just("\"a(\""), Just("'\\xff'"), Just(","), Just("0x"), Just("nan"), Just("inf"), Just("start"),
            Just("bool"), Just("on"), Just("\u{e4}"), Just("#"), Just("`"), Just("1.5"), Just("9999999999999y"),
        ], 0..12), blanks in any::<bool>()) {
            let text = words.join(if blanks { " " } else { "" });
            if let Err(refused) = parse(&text) {
                prop_assert!(refused.position >= 1 && refused.position <= text.chars().count() + 1);
            }
        }
    }
}
