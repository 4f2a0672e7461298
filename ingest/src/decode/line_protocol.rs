//! InfluxDB line protocol: a body cut into lines, and a line into its parts.
//!
//! ```text
//! measurement,tag=value field=1.5,other=2i,on=t 1420070400000
//! ```
//! Only the syntax is here, without a copy of what it cuts; what the parts mean is told by [`series`]. A line is read in one
//! pass: the fields are cut as they are asked for, so that a caller who knows which field comes next need not look for its end.
//!
//! # Source
//! InfluxData, *Line protocol reference*: a backslash makes a comma, an equals sign or a space part of a name, and a quote or
//! backslash part of a text; before anything else it stands for itself. A text may hold line breaks.

use std::borrow::Cow;

pub(crate) mod series;

/// Cuts a body into lines; each has its number from 1. Blank lines and comments are counted and left out.
pub(crate) struct Lines<'a> {
    rest: &'a [u8],
    number: usize,
}

impl<'a> Lines<'a> {
    pub(crate) fn of(body: &'a [u8]) -> Self {
        Self { rest: body, number: 0 }
    }
}

impl<'a> Iterator for Lines<'a> {
    type Item = (usize, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        while !self.rest.is_empty() {
            let first = self.number + 1;
            let end = line_end(self.rest);
            let (line, behind) = self.rest.split_at_checked(end)?;
            self.rest = behind.get(1..).unwrap_or_default();
            self.number = first + memchr::memchr_iter(b'\n', line).count();
            let line = line.trim_ascii();
            if !line.is_empty() && line.first() != Some(&b'#') {
                return Some((first, line));
            }
        }
        None
    }
}

/// Where the first line of `body` ends. A line break inside of a text does not end it, unless the text never ends: then
/// only that line is lost and not all behind it.
fn line_end(body: &[u8]) -> usize {
    let end = memchr::memchr(b'\n', body).unwrap_or(body.len());
    let quoted = body.get(..end).is_some_and(|line| memchr::memchr(b'"', line).is_some());
    if quoted && body.first() != Some(&b'#') { end_behind_texts(body).unwrap_or(end) } else { end }
}

/// As [`line_end`] for a line with quotes, which begin a text in the fields alone; `None` where a text does not end.
fn end_behind_texts(body: &[u8]) -> Option<usize> {
    let (mut fields, mut text, mut escaped) = (false, false, false);
    for (place, &byte) in body.iter().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b' ' if !text => fields = true,
            b'"' if fields => text = !text,
            b'\n' if !text => return Some(place),
            _ => {}
        }
    }
    (!text).then_some(body.len())
}

/// The first place of an unescaped byte out of `wanted`.
fn find_unescaped(text: &str, wanted: &[u8]) -> Option<usize> {
    let mut escaped = false;
    text.bytes().position(|byte| {
        let found = !escaped && wanted.contains(&byte);
        escaped = byte == b'\\' && !escaped;
        found
    })
}

/// A name without its escapes.
fn unescaped(name: &str) -> Cow<'_, str> {
    if !name.contains('\\') {
        return Cow::Borrowed(name);
    }
    let mut text = String::with_capacity(name.len());
    let mut characters = name.chars().peekable();
    while let Some(character) = characters.next() {
        match characters.peek() {
            Some(&next @ (',' | '=' | ' ')) if character == '\\' => {
                text.push(next);
                characters.next();
            }
            _ => text.push(character),
        }
    }
    Cow::Owned(text)
}

/// The value of a field.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Value {
    Number(f64),
    /// A text, which is no sample.
    Text,
}

/// A line behind its series: the fields one by one, then the time.
struct Fields<'a> {
    rest: &'a str,
}

/// Cuts the series - measurement and tags, as they stand - from the fields.
fn cut_series(line: &str) -> Result<(&str, Fields<'_>), String> {
    let end =
        find_unescaped(line, b" ").ok_or("no fields: a space must part them from the measurement and its tags")?;
    let (series, rest) = line.split_at(end);
    Ok((series, Fields { rest: rest.trim_start_matches(' ') }))
}

impl<'a> Fields<'a> {
    /// Steps over the key of the next field if it is the expected one, as it stands in the line.
    fn step_over(&mut self, expected: &str) -> bool {
        let behind = self.rest.strip_prefix(expected).and_then(|rest| rest.strip_prefix('='));
        if let Some(rest) = behind {
            self.rest = rest;
        }
        behind.is_some()
    }

    /// The key of the next field as it stands in the line.
    fn key(&mut self) -> Result<&'a str, String> {
        let end = find_unescaped(self.rest, b"=, ").filter(|&end| self.rest.as_bytes().get(end) == Some(&b'='));
        let (key, rest) = end.and_then(|end| self.rest.split_at_checked(end)).ok_or("a field is no key=value")?;
        if key.is_empty() {
            return Err("a field has no name".to_owned());
        }
        self.rest = rest.get(1..).unwrap_or_default();
        Ok(key)
    }

    /// The value of the field whose key was taken, and whether another field follows.
    fn value(&mut self) -> Result<(Value, bool), String> {
        if let Some(text) = self.rest.strip_prefix('"') {
            let mut escaped = false;
            let end = text.bytes().position(|byte| {
                let found = byte == b'"' && !escaped;
                escaped = byte == b'\\' && !escaped;
                found
            });
            self.rest = end.and_then(|end| text.get(end + 1..)).ok_or("a text does not end")?;
            return self.end_of_value().map(|more| (Value::Text, more));
        }
        let end = self.rest.bytes().position(|byte| matches!(byte, b',' | b' ')).unwrap_or(self.rest.len());
        let (value, rest) = self.rest.split_at(end);
        let value = number(value)?;
        self.rest = rest;
        self.end_of_value().map(|more| (Value::Number(value), more))
    }

    fn end_of_value(&mut self) -> Result<bool, String> {
        if let Some(rest) = self.rest.strip_prefix(',') {
            self.rest = rest;
            return Ok(true);
        }
        if self.rest.is_empty() || self.rest.starts_with(' ') {
            return Ok(false);
        }
        Err("something stands behind a text".to_owned())
    }

    /// The time behind the last field, in the unit of the request.
    fn timestamp(self) -> Result<Option<i64>, String> {
        match self.rest.trim_matches(' ') {
            "" => Ok(None),
            text => text.parse().map(Some).map_err(|_| format!("ts: {text:?} is no whole number")),
        }
    }
}

/// A float, an integer with its suffix, or a boolean as 0 or 1.
fn number(text: &str) -> Result<f64, String> {
    let number = match text.as_bytes() {
        [b'0'..=b'9' | b'-' | b'+' | b'.', .., b'i'] => {
            text.strip_suffix('i').and_then(|text| text.parse::<i64>().ok()).map(|n| n as f64)
        }
        [b'0'..=b'9', .., b'u'] => text.strip_suffix('u').and_then(|text| text.parse::<u64>().ok()).map(|n| n as f64),
        [b'0'..=b'9' | b'-' | b'+' | b'.', ..] => text.parse::<f64>().ok().filter(|number| number.is_finite()),
        b"t" | b"T" | b"true" | b"True" | b"TRUE" => Some(1.0),
        b"f" | b"F" | b"false" | b"False" | b"FALSE" => Some(0.0),
        _ => None,
    };
    number.ok_or_else(|| format!("{:?} is no number, boolean or quoted text", super::shown(text)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Series, fields as `key=value` (texts as `"`) and time of a line, or what is wrong with it.
    fn cut(line: &str) -> Result<String, String> {
        let (series, mut fields) = cut_series(line)?;
        let mut told = unescaped(series).into_owned();
        let mut more = true;
        while more {
            let key = fields.key()?;
            let (value, another) = fields.value()?;
            told += &match value {
                Value::Number(number) => format!(" {}={number}", unescaped(key)),
                Value::Text => format!(" {}=\"", unescaped(key)),
            };
            more = another;
        }
        Ok(match fields.timestamp()? {
            Some(time) => format!("{told} @{time}"),
            None => told,
        })
    }

    #[track_caller]
    fn check(line: &str, expected: &str) {
        assert_eq!(cut(line).as_deref(), Ok(expected), "{line}");
    }

    #[track_caller]
    fn check_refused(line: &str, word: &str) {
        let reason = cut(line).unwrap_err();
        assert!(reason.contains(word), "{line}: {reason}");
    }

    #[test]
    fn lines_are_cut_as_the_reference_says() {
        check("cpu,host=a usage=1.5 1420070400000", "cpu,host=a usage=1.5 @1420070400000");
        check("cpu usage=1", "cpu usage=1");
        check("cpu  a=1,b=-2i,c=3u,d=t,e=False   -7 ", "cpu a=1 b=-2 c=3 d=1 e=0 @-7");
        check(r"my\ cpu\,x,a\=b=c\,d\ e f\ g\=h\,i=1e3", "my cpu,x,a=b=c,d e f g=h,i=1000");
        check(r#"cpu a="x, y=\"z\" \\",b=1 5"#, "cpu a=\" b=1 @5");
        check(r"win\path,dir=c:\temp used\pct=1", r"win\path,dir=c:\temp used\pct=1");
        check("cpu,quote=\" a=1 2", "cpu,quote=\" a=1 @2");
        check("größe,ort=köln höhe=1", "größe,ort=köln höhe=1");
    }

    #[test]
    fn what_is_no_line_is_refused_with_the_place() {
        check_refused("cpu", "no fields");
        check_refused("cpu,host=a", "no fields");
        check_refused("cpu a", "key=value");
        check_refused("cpu a b=1", "key=value");
        check_refused("cpu =1", "no name");
        check_refused("cpu a=1,", "key=value");
        check_refused("cpu a= 5", "\"\" is no number");
        check_refused("cpu a=\"x", "does not end");
        check_refused("cpu a=\"x\"y 5", "behind a text");
        check_refused("cpu a=1 5.5", "no whole number");
        check_refused("cpu a=1 5 6", "no whole number");
        for value in [
            "NaN",
            "nan",
            "-nan",
            "inf",
            "-inf",
            "+Inf",
            "infinity",
            "1e999",
            "1.5i",
            "-1u",
            "9999999999999999999i",
            "tRUE",
            "0x10",
            "1_000",
            "i",
            "-",
            ".",
        ] {
            check_refused(&format!("cpu a={value} 5"), "is no number");
        }
    }

    #[track_caller]
    fn check_lines(body: &str, expected: &[(usize, &str)]) {
        let lines: Vec<(usize, &str)> =
            Lines::of(body.as_bytes()).map(|(number, line)| (number, str::from_utf8(line).unwrap())).collect();
        assert_eq!(lines, expected);
    }

    #[test]
    fn lines_have_the_numbers_of_the_body() {
        check_lines("a b=1\r\n\n# note \"\n  c d=2\n", &[(1, "a b=1"), (4, "c d=2")]);
        check_lines("", &[]);
        check_lines("\n\n", &[]);
    }

    /// A text may hold a line break; a quote in a tag begins no text; a text without an end costs its own line only.
    #[test]
    fn a_line_break_in_a_text_does_not_end_the_line() {
        check_lines("a b=\"x\ny\\\"\nz\",c=1 5\nd e=1", &[(1, "a b=\"x\ny\\\"\nz\",c=1 5"), (4, "d e=1")]);
        check_lines("a,t=\" b=1\nc d=2", &[(1, "a,t=\" b=1"), (2, "c d=2")]);
        check_lines("a b=\"x\nc d=2", &[(1, "a b=\"x"), (2, "c d=2")]);
    }
}
