//! The statement at the front door: capped before it is parsed, closed once it is.
//!
//! [`guard`] reads the bytes once, in constant stack, and stops at the first cap; only what is
//! left is tokenised and parsed. The parsed statement must be a query (or `EXPLAIN`, `EXPLAIN PRIVACY`,
//! `SHOW`, or `SET guildhall.*`) of listed parts: no change of data or schema, no `COPY`, table function,
//! file or engine setting, and a part that this list does not know is refused.
//!
//! It does not know the catalogue: whether a name exists, and for whom, is for the planner.

mod closed;
mod ordinals;
mod size;
mod weight;

use datafusion::sql::sqlparser::ast::{
    DescribeAlias, Expr, ObjectName, ObjectNamePart, Set, ShowStatementOptions, Statement,
    UnaryOperator, Value, Visit,
};
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::parser::{Parser, ParserError};
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan, Tokenizer};
use std::ops::ControlFlow;

/// How large a statement may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StatementLimits {
    /// Bytes of text.
    pub max_bytes: usize,
    /// Words, numbers, texts and signs.
    pub max_tokens: usize,
    /// Operators: signs, `AND`, `OR`, `NOT`, `LIKE`, `BETWEEN` and the like.
    pub max_operators: usize,
    /// Brackets and `CASE` inside each other.
    pub max_depth: usize,
    /// `SELECT`s.
    pub max_selects: usize,
    /// `JOIN`s, and tables parted by commas.
    pub max_joins: usize,
    /// `UNION`, `EXCEPT` and `INTERSECT`.
    pub max_set_operations: usize,
    /// Tables and queries, one of a `WITH` as often as it is used.
    pub max_relations: usize,
    /// Grouping sets of one `SELECT`; a `CUBE` of six columns stands for 64.
    pub max_grouping_sets: usize,
}

impl Default for StatementLimits {
    fn default() -> Self {
        Self {
            max_bytes: 128 << 10,
            max_tokens: 16_384,
            max_operators: 512,
            max_depth: 40,
            max_selects: 64,
            max_joins: 32,
            max_set_operations: 32,
            max_relations: 256,
            max_grouping_sets: 64,
        }
    }
}

/// A statement that may be planned or answered.
#[derive(Debug, Clone, PartialEq)]
pub enum GuardedStatement {
    /// A query to plan and run; `SHOW TABLES` and `SHOW COLUMNS` among them.
    Query(Box<Statement>),
    /// A query to explain.
    Explain {
        /// Whether it is also to run; see the planner.
        analyze: bool,
        /// The query.
        statement: Box<Statement>,
    },
    /// `EXPLAIN PRIVACY`: a query of which is told what it may tell and what it costs, and which does not run.
    ExplainPrivacy {
        /// The query.
        statement: Box<Statement>,
    },
    /// `SET guildhall.<name> = <value>`.
    Set {
        /// The name, without `guildhall.`, in lower case.
        name: String,
        /// The value as text.
        value: String,
    },
    /// `SHOW guildhall.<name>`, or `SHOW guildhall` for all.
    Show {
        /// The name, without `guildhall.`, in lower case; empty for all.
        name: String,
    },
}

/// Why a statement is not taken, in the order the checks run.
///
/// No text here holds a literal of the statement.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StatementError {
    /// Longer than a statement may be.
    #[error("the statement has {bytes} bytes; {limit} is the most")]
    TooLong {
        /// Its length.
        bytes: usize,
        /// The most.
        limit: usize,
    },
    /// More of something than a statement may have.
    #[error("the statement has more than {limit} {what}")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// The most.
        limit: usize,
    },
    /// Brackets or `CASE` too far inside each other.
    #[error("the statement nests more than {limit} deep")]
    TooDeep {
        /// The most.
        limit: usize,
    },
    /// Nothing but space and comments.
    #[error("the statement is empty")]
    Empty,
    /// Not SQL.
    #[error("cannot parse the statement: {message}")]
    Syntax {
        /// What was expected and where.
        message: String,
    },
    /// More than one statement.
    #[error("one statement at a time")]
    Several,
    /// SQL, but none that is answered here.
    #[error("{what} is not offered here")]
    NotOffered {
        /// What, in SQL's own words.
        what: String,
        /// What to do instead; may be empty.
        instead: &'static str,
    },
}

impl StatementError {
    /// What to do instead, for a `help:` line.
    #[must_use]
    pub fn help(&self) -> Option<&str> {
        match self {
            Self::TooLong { .. } | Self::TooMany { .. } => {
                Some("ask for less at once, or bind values as parameters")
            }
            Self::TooDeep { .. } => Some("name the inner parts with `WITH`"),
            Self::NotOffered { instead, .. } if !instead.is_empty() => Some(instead),
            Self::Empty | Self::Syntax { .. } | Self::Several | Self::NotOffered { .. } => None,
        }
    }

    pub(crate) fn not_offered(what: impl Into<String>, instead: &'static str) -> Self {
        Self::NotOffered {
            what: what.into(),
            instead,
        }
    }
}

/// Parses one statement, if it is within `limits` and made of listed parts.
pub fn guard(sql: &str, limits: &StatementLimits) -> Result<GuardedStatement, StatementError> {
    if sql.len() > limits.max_bytes {
        return Err(StatementError::TooLong {
            bytes: sql.len(),
            limit: limits.max_bytes,
        });
    }
    // A first count that knows little of SQL but stops early and allocates nothing; then the
    // parser's own tokens, so that the two cannot be played against each other.
    size::scan(sql, limits)?;
    let dialect = GenericDialect {};
    let tokens = Tokenizer::new(&dialect, sql)
        .tokenize_with_location()
        .map_err(|e| StatementError::Syntax {
            message: syntax(&e.to_string()),
        })?;
    size::count(&tokens, limits)?;
    let (tokens, privacy) = without_privacy(tokens);
    let mut statements = Parser::new(&dialect)
        .with_recursion_limit(limits.max_depth.saturating_mul(4).max(50))
        .with_tokens_with_locations(tokens)
        .parse_statements()
        .map_err(|e| parse_error(e, limits))?;
    match (statements.pop(), statements.is_empty()) {
        (None, _) => Err(StatementError::Empty),
        (Some(_), false) => Err(StatementError::Several),
        (Some(statement), true) => match (close(statement, limits)?, privacy) {
            (closed, false) => Ok(closed),
            (
                GuardedStatement::Explain {
                    analyze: false,
                    statement,
                },
                true,
            ) => Ok(GuardedStatement::ExplainPrivacy { statement }),
            (_, true) => Err(StatementError::not_offered(
                "this form of EXPLAIN PRIVACY",
                "write `EXPLAIN PRIVACY SELECT ...`",
            )),
        },
    }
}

/// The tokens of `EXPLAIN PRIVACY <query>` as those of `EXPLAIN <query>`, which is what the parser knows; and whether they
/// were. It goes by the parser's own tokens, whatever comments and space are between them.
///
/// `EXPLAIN privacy` with nothing after it is left to the parser, to which it is a table to be described.
fn without_privacy(mut tokens: Vec<TokenWithSpan>) -> (Vec<TokenWithSpan>, bool) {
    let is_word = |token: &Token, text: &str| match token {
        Token::Word(word) => word.quote_style.is_none() && word.value.eq_ignore_ascii_case(text),
        _ => false,
    };
    let told = tokens.iter().enumerate();
    let told = told.filter(|(_, t)| !matches!(t.token, Token::Whitespace(_)));
    let first: Vec<(usize, &TokenWithSpan)> = told.take(3).collect();
    let at = match first.as_slice() {
        [(_, explain), (at, privacy), (_, rest)]
            if is_word(&explain.token, "explain")
                && is_word(&privacy.token, "privacy")
                && !matches!(rest.token, Token::EOF | Token::SemiColon) =>
        {
            *at
        }
        _ => return (tokens, false),
    };
    tokens.remove(at);
    (tokens, true)
}

fn parse_error(e: ParserError, limits: &StatementLimits) -> StatementError {
    match e {
        ParserError::TokenizerError(m) | ParserError::ParserError(m) => StatementError::Syntax {
            message: syntax(&m),
        },
        ParserError::RecursionLimitExceeded => StatementError::TooDeep {
            limit: limits.max_depth,
        },
    }
}

/// The parser's words without what it found, unless that is a plain word or sign: it may be a
/// literal.
fn syntax(message: &str) -> String {
    let (before, place) = match message.rfind(" at Line: ") {
        Some(at) => message.split_at(at),
        None => (message, ""),
    };
    let kept = match before.split_once(", found: ") {
        Some((expected, found)) if is_plain(found) => format!("{expected}, found: {found}"),
        Some((expected, _)) => expected.to_owned(),
        // Words of the tokenizer and of some parts of the parser quote no text of the statement
        // only if there is no quoting in them.
        None if before.contains(['\'', '"', '`']) || before.len() > 120 => {
            "not valid SQL".to_owned()
        }
        None => before.to_owned(),
    };
    let kept = kept.strip_prefix("sql parser error: ").unwrap_or(&kept);
    let place = place.replace("Line:", "line").replace("Column:", "column");
    format!("{}{place}", kept.replace("Expected:", "expected"))
}

fn is_plain(found: &str) -> bool {
    let word = found.len() <= 32
        && found.starts_with(|c: char| c.is_ascii_alphabetic())
        && found.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    word || (found.len() <= 2 && found.chars().all(|c| c.is_ascii_punctuation()))
}

fn close(
    mut statement: Statement,
    limits: &StatementLimits,
) -> Result<GuardedStatement, StatementError> {
    match statement {
        Statement::Query(_) => {
            check_parts(&statement, limits)?;
            ordinals::spell_out(&mut statement);
            Ok(GuardedStatement::Query(Box::new(statement)))
        }
        Statement::Explain {
            describe_alias: DescribeAlias::Explain,
            analyze,
            verbose: false,
            query_plan: false,
            estimate: false,
            statement: inner,
            format: None,
            options: None,
        } => match *inner {
            Statement::Query(_) => {
                let mut inner = inner;
                check_parts(&inner, limits)?;
                ordinals::spell_out(&mut inner);
                Ok(GuardedStatement::Explain {
                    analyze,
                    statement: inner,
                })
            }
            _ => Err(StatementError::not_offered(
                "EXPLAIN of anything but a query",
                "",
            )),
        },
        Statement::Explain { .. } => Err(StatementError::not_offered(
            "this form of EXPLAIN",
            "write `EXPLAIN SELECT ...`",
        )),
        Statement::ExplainTable { .. } => Err(StatementError::not_offered(
            "DESCRIBE",
            "write `SHOW COLUMNS FROM ...`",
        )),
        Statement::Set(set) => setting(set),
        Statement::ShowVariable { variable } => shown(&variable),
        Statement::ShowTables {
            ref show_options, ..
        }
        | Statement::ShowColumns {
            ref show_options, ..
        } if is_bare(show_options) => {
            check_parts(&statement, limits)?;
            Ok(GuardedStatement::Query(Box::new(statement)))
        }
        Statement::ShowTables { .. } | Statement::ShowColumns { .. } => {
            Err(StatementError::not_offered(
                "this form of SHOW",
                "ask `information_schema` for what is wanted",
            ))
        }
        other => Err(StatementError::not_offered(
            closed::statement_name(&other),
            "Guildhall answers queries; data is changed where it is kept, by `guildhall node import`",
        )),
    }
}

fn is_bare(options: &ShowStatementOptions) -> bool {
    options.starts_with.is_none()
        && options.limit.is_none()
        && options.limit_from.is_none()
        && options.filter_position.is_none()
}

fn check_parts(statement: &Statement, limits: &StatementLimits) -> Result<(), StatementError> {
    let closed = statement.visit(&mut closed::Closed);
    if let ControlFlow::Break(e) = closed {
        return Err(e);
    }
    match statement.visit(&mut weight::Weight::new(limits)) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(e) => Err(e),
    }
}

const SETTINGS: &str = "the settings of Guildhall are `SET guildhall.<name> = <value>`";

fn setting(set: Set) -> Result<GuardedStatement, StatementError> {
    let Set::SingleAssignment {
        scope: _,
        hivevar: false,
        variable,
        values,
    } = set
    else {
        return Err(StatementError::not_offered("this form of SET", SETTINGS));
    };
    let name = own_name(&variable)
        .ok_or_else(|| StatementError::not_offered("a setting of the engine", SETTINGS))?;
    let value = match values.as_slice() {
        [value] => text_of(value),
        _ => None,
    };
    let value = value.ok_or_else(|| {
        StatementError::not_offered("a setting that is not one plain value", SETTINGS)
    })?;
    Ok(GuardedStatement::Set { name, value })
}

fn own_name(variable: &ObjectName) -> Option<String> {
    let [
        ObjectNamePart::Identifier(first),
        ObjectNamePart::Identifier(second),
    ] = variable.0.as_slice()
    else {
        return None;
    };
    let name = second.value.to_ascii_lowercase();
    (first.value.eq_ignore_ascii_case("guildhall") && is_setting_name(&name)).then_some(name)
}

fn is_setting_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= 64
        && name
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
}

fn text_of(value: &Expr) -> Option<String> {
    match value {
        Expr::Identifier(word) => Some(word.value.clone()),
        Expr::Value(v) => match &v.value {
            Value::SingleQuotedString(s) | Value::Number(s, false) => Some(s.clone()),
            Value::Boolean(b) => Some(b.to_string()),
            _ => None,
        },
        Expr::UnaryOp {
            op: UnaryOperator::Minus,
            expr,
        } => text_of(expr).map(|text| format!("-{text}")),
        _ => None,
    }
}

fn shown(
    variable: &[datafusion::sql::sqlparser::ast::Ident],
) -> Result<GuardedStatement, StatementError> {
    let words: Vec<String> = variable
        .iter()
        .map(|w| w.value.to_ascii_lowercase())
        .collect();
    let words: Vec<&str> = words.iter().flat_map(|w| w.split('.')).collect();
    match words.as_slice() {
        ["guildhall" | "all"] => Ok(GuardedStatement::Show {
            name: String::new(),
        }),
        ["guildhall", name] if is_setting_name(name) => Ok(GuardedStatement::Show {
            name: (*name).to_owned(),
        }),
        _ => Err(StatementError::not_offered(
            "this form of SHOW",
            "write `SHOW TABLES`, `SHOW COLUMNS FROM ...` or `SHOW guildhall.<name>`",
        )),
    }
}

#[cfg(test)]
mod tests;
