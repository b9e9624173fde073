//! Statements that passed the guard, and what they are about.

use crate::error::DoorError;
use datafusion::common::TableReference;
use datafusion::sql::parser::Statement as EngineStatement;
use datafusion::sql::resolve::resolve_table_references;
use datafusion::sql::sqlparser::ast::Statement;
use guildhall_model::CouncilName;
use guildhall_plan::catalogue::{CITY, INFORMATION_SCHEMA, OWN_SCHEMA, OwnTable};
use guildhall_plan::guard::{GuardedStatement, StatementError, StatementLimits, guard};
use std::collections::BTreeSet;
use std::fmt;

/// A statement that passed the guard.
pub(crate) enum Parsed {
    /// It has rows to answer with; this includes EXPLAIN and EXPLAIN PRIVACY.
    Query(Box<Question>),
    Set {
        name: String,
        value: String,
    },
    Show {
        name: String,
    },
}

/// A statement to plan.
pub(crate) struct Question {
    pub(super) statement: GuardedStatement,
    references: Vec<TableReference>,
}

impl Parsed {
    /// Guards `sql` and finds what it refers to.
    pub(super) fn read(sql: &str, limits: &StatementLimits) -> Result<Self, DoorError> {
        let statement = guard(sql, limits).map_err(guard_error)?;
        let references = match &statement {
            GuardedStatement::Query(inner) => references(inner)?,
            GuardedStatement::Explain {
                statement: inner, ..
            }
            | GuardedStatement::ExplainPrivacy { statement: inner } => references(inner)?,
            GuardedStatement::Set { .. } | GuardedStatement::Show { .. } => Vec::new(),
        };
        Ok(match statement {
            GuardedStatement::Set { name, value } => Self::Set { name, value },
            GuardedStatement::Show { name } => Self::Show { name },
            statement => Self::Query(Box::new(Question {
                statement,
                references,
            })),
        })
    }
}

impl fmt::Debug for Parsed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Query(question) => f
                .debug_tuple("Query")
                .field(&question.references.len())
                .finish(),
            Self::Set { name, .. } => f
                .debug_struct("Set")
                .field("name", name)
                .finish_non_exhaustive(),
            Self::Show { name } => f.debug_struct("Show").field("name", name).finish(),
        }
    }
}

impl Question {
    /// Whether it reads any product; `SELECT 1`, the information schema and the asker's own tables need no purpose.
    pub(super) fn reads_products(&self) -> bool {
        self.references.iter().any(|r| !is_of_the_gateway(r))
    }

    /// The councils of `away` whose products it may be about.
    pub(super) fn touches<'a>(&self, away: &'a BTreeSet<CouncilName>) -> Vec<&'a CouncilName> {
        away.iter()
            .filter(|council| {
                self.references.iter().any(|r| {
                    !is_of_the_gateway(r)
                        && r.catalog()
                            .is_none_or(|c| c == CITY || c == council.as_str())
                })
            })
            .collect()
    }
}

/// Whether it is of a table that this gateway holds itself.
fn is_of_the_gateway(table: &TableReference) -> bool {
    let in_the_city = table.catalog().is_none_or(|c| c == CITY);
    let own = || OwnTable::ALL.iter().any(|own| own.name() == table.table());
    match table.schema() {
        Some(INFORMATION_SCHEMA) => true,
        Some(OWN_SCHEMA) => in_the_city && own(),
        _ => false,
    }
}

pub(super) fn question(parsed: &Parsed) -> Result<&Question, DoorError> {
    match parsed {
        Parsed::Query(question) => Ok(question),
        Parsed::Set { .. } | Parsed::Show { .. } => {
            Err(DoorError::invalid("the statement has nothing to plan"))
        }
    }
}

fn references(statement: &Statement) -> Result<Vec<TableReference>, DoorError> {
    let statement = EngineStatement::Statement(Box::new(statement.clone()));
    let (tables, _) = resolve_table_references(&statement, true).map_err(|_| {
        DoorError::invalid("the statement names a table in a way that is not understood")
    })?;
    Ok(tables)
}

fn guard_error(e: StatementError) -> DoorError {
    let message = match e.help() {
        Some(help) => format!("{e}\nhelp: {help}"),
        None => e.to_string(),
    };
    match e {
        StatementError::TooLong { .. }
        | StatementError::TooMany { .. }
        | StatementError::TooDeep { .. } => DoorError::TooMuch { message },
        _ => DoorError::Invalid(message),
    }
}
