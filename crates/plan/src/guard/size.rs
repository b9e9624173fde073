//! Counting, before parsing.

use super::{StatementError, StatementLimits};
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan};

/// Counts in one pass over the bytes, without allocating, and stops at the first cap.
///
/// It knows quotes and comments well enough not to count what is inside them.
pub(super) fn scan(sql: &str, limits: &StatementLimits) -> Result<(), StatementError> {
    let bytes = sql.as_bytes();
    let mut tally = Tally::new(limits);
    let mut at = 0;
    while let Some(&b) = bytes.get(at) {
        let rest = bytes.get(at..).unwrap_or_default();
        at += match b {
            b if b.is_ascii_whitespace() => 1,
            b'\'' | b'"' | b'`' => {
                tally.token()?;
                quoted(rest, b)
            }
            b'-' if rest.starts_with(b"--") => until(rest, b"\n"),
            b'/' if rest.starts_with(b"/*") => until(rest, b"*/"),
            b if b.is_ascii_alphanumeric() || b == b'_' || b >= 0x80 => {
                let n = rest.iter().take_while(|b| in_word(**b)).count();
                tally.word(rest.get(..n).unwrap_or_default())?;
                n
            }
            b'(' | b'[' | b'{' => tally.open()?,
            b')' | b']' | b'}' => tally.close()?,
            b',' | b';' | b'.' | b'$' | b'?' | b'@' | b'#' | b'\\' | b':' => tally.sign(false)?,
            _ => tally.sign(true)?,
        };
    }
    Ok(())
}

/// Counts the parser's own tokens.
pub(super) fn count(
    tokens: &[TokenWithSpan],
    limits: &StatementLimits,
) -> Result<(), StatementError> {
    let mut tally = Tally::new(limits);
    for token in tokens {
        match &token.token {
            Token::Whitespace(_) | Token::EOF => {}
            Token::Word(word) if word.quote_style.is_none() => tally.word(word.value.as_bytes())?,
            Token::LParen | Token::LBracket | Token::LBrace => {
                tally.open()?;
            }
            Token::RParen | Token::RBracket | Token::RBrace => {
                tally.close()?;
            }
            t if is_value(t) => tally.token()?,
            _ => {
                tally.sign(true)?;
            }
        }
    }
    Ok(())
}

/// Tokens that are no operator: names, values and separators.
fn is_value(token: &Token) -> bool {
    matches!(
        token,
        Token::Word(_)
            | Token::Number(_, _)
            | Token::SingleQuotedString(_)
            | Token::DoubleQuotedString(_)
            | Token::DollarQuotedString(_)
            | Token::EscapedStringLiteral(_)
            | Token::NationalStringLiteral(_)
            | Token::UnicodeStringLiteral(_)
            | Token::HexStringLiteral(_)
            | Token::Placeholder(_)
            | Token::Comma
            | Token::SemiColon
            | Token::Period
            | Token::DoubleColon
            | Token::Colon
    )
}

fn in_word(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b == b'_' || b >= 0x80
}

/// The length of a quoted text, doubled quotes inside it included.
fn quoted(bytes: &[u8], quote: u8) -> usize {
    let mut at = 1;
    while let Some(&b) = bytes.get(at) {
        at += 1;
        if b == quote {
            if bytes.get(at) == Some(&quote) {
                at += 1;
            } else {
                break;
            }
        }
    }
    at
}

fn until(bytes: &[u8], end: &[u8]) -> usize {
    bytes
        .windows(end.len())
        .position(|w| w == end)
        .map_or(bytes.len(), |at| at.saturating_add(end.len()))
}

struct Tally<'a> {
    limits: &'a StatementLimits,
    tokens: usize,
    operators: usize,
    depth: usize,
    selects: usize,
    joins: usize,
    set_operations: usize,
}

impl<'a> Tally<'a> {
    fn new(limits: &'a StatementLimits) -> Self {
        Self {
            limits,
            tokens: 0,
            operators: 0,
            depth: 0,
            selects: 0,
            joins: 0,
            set_operations: 0,
        }
    }

    fn token(&mut self) -> Result<(), StatementError> {
        one_more(&mut self.tokens, self.limits.max_tokens, "words and signs")
    }

    fn operator(&mut self) -> Result<(), StatementError> {
        one_more(&mut self.operators, self.limits.max_operators, "operators")
    }

    fn sign(&mut self, operator: bool) -> Result<usize, StatementError> {
        self.token()?;
        if operator {
            self.operator()?;
        }
        Ok(1)
    }

    fn open(&mut self) -> Result<usize, StatementError> {
        self.token()?;
        self.depth = self.depth.saturating_add(1);
        if self.depth > self.limits.max_depth {
            return Err(StatementError::TooDeep {
                limit: self.limits.max_depth,
            });
        }
        Ok(1)
    }

    fn close(&mut self) -> Result<usize, StatementError> {
        self.token()?;
        self.depth = self.depth.saturating_sub(1);
        Ok(1)
    }

    fn word(&mut self, word: &[u8]) -> Result<(), StatementError> {
        self.token()?;
        let is = |keyword: &str| word.eq_ignore_ascii_case(keyword.as_bytes());
        let limits = self.limits;
        if !(2..=9).contains(&word.len()) {
            return Ok(());
        }
        if is("select") {
            one_more(&mut self.selects, limits.max_selects, "SELECTs")?;
        } else if is("join") || is("lateral") {
            one_more(&mut self.joins, limits.max_joins, "joins")?;
        } else if is("union") || is("except") || is("intersect") || is("minus") {
            one_more(
                &mut self.set_operations,
                limits.max_set_operations,
                "set operations",
            )?;
        } else if is("case") {
            self.open()?;
        } else if is("end") {
            self.close()?;
        } else if [
            "and", "or", "not", "xor", "like", "ilike", "rlike", "regexp", "between", "is",
            "collate", "escape",
        ]
        .into_iter()
        .any(is)
        {
            self.operator()?;
        }
        Ok(())
    }
}

fn one_more(count: &mut usize, limit: usize, what: &'static str) -> Result<(), StatementError> {
    *count = count.saturating_add(1);
    if *count > limit {
        Err(StatementError::TooMany { what, limit })
    } else {
        Ok(())
    }
}
