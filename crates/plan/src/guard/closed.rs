//! The closed list of what a query is made of.

use super::StatementError;
use crate::functions;
use datafusion::sql::sqlparser::ast::{
    BinaryOperator, CastKind, Expr, Function, FunctionArguments, GroupByExpr, Ident, LimitClause,
    ObjectName, ObjectNamePart, Query, Select, SelectFlavor, SetExpr, Statement, TableFactor,
    UnaryOperator, Value, ValueWithSpan, Visitor,
};
use std::ops::ControlFlow;

/// Visits every node of a query and stops at the first that is not listed.
pub(super) struct Closed;

type Seen = ControlFlow<StatementError>;

fn refuse(what: impl Into<String>, instead: &'static str) -> Seen {
    ControlFlow::Break(StatementError::not_offered(what, instead))
}

fn refuse_if(condition: bool, what: &str) -> Seen {
    if condition {
        refuse(what, "")
    } else {
        ControlFlow::Continue(())
    }
}

impl Visitor for Closed {
    type Break = StatementError;

    fn pre_visit_statement(&mut self, statement: &Statement) -> Seen {
        match statement {
            Statement::Query(_) | Statement::ShowTables { .. } | Statement::ShowColumns { .. } => {
                ControlFlow::Continue(())
            }
            other => refuse(statement_name(other), ""),
        }
    }

    fn pre_visit_query(&mut self, query: &Query) -> Seen {
        let recursive = query.with.as_ref().is_some_and(|w| w.recursive);
        refuse_if(recursive, "WITH RECURSIVE")?;
        refuse_if(!query.locks.is_empty(), "FOR UPDATE")?;
        refuse_if(query.for_clause.is_some(), "FOR XML and FOR JSON")?;
        refuse_if(
            query.settings.is_some() || query.format_clause.is_some(),
            "SETTINGS and FORMAT",
        )?;
        refuse_if(!query.pipe_operators.is_empty(), "a pipe operator")?;
        if let Some(LimitClause::LimitOffset { limit_by, .. }) = &query.limit_clause {
            refuse_if(!limit_by.is_empty(), "LIMIT BY")?;
        }
        body(&query.body)
    }

    fn pre_visit_select(&mut self, select: &Select) -> Seen {
        refuse_if(select.into.is_some(), "SELECT INTO")?;
        refuse_if(select.top.is_some(), "TOP")?;
        refuse_if(!select.optimizer_hints.is_empty(), "an optimiser hint")?;
        refuse_if(select.select_modifiers.is_some(), "a modifier of SELECT")?;
        refuse_if(!select.lateral_views.is_empty(), "LATERAL VIEW")?;
        refuse_if(select.prewhere.is_some(), "PREWHERE")?;
        refuse_if(!select.connect_by.is_empty(), "CONNECT BY")?;
        refuse_if(
            !select.cluster_by.is_empty()
                || !select.distribute_by.is_empty()
                || !select.sort_by.is_empty(),
            "CLUSTER BY, DISTRIBUTE BY and SORT BY",
        )?;
        refuse_if(
            select.value_table_mode.is_some(),
            "SELECT AS STRUCT and AS VALUE",
        )?;
        refuse_if(
            select.flavor != SelectFlavor::Standard,
            "FROM without SELECT",
        )?;
        let modified = match &select.group_by {
            GroupByExpr::All(m) | GroupByExpr::Expressions(_, m) => !m.is_empty(),
        };
        refuse_if(modified, "GROUP BY ... WITH")
    }

    fn pre_visit_relation(&mut self, name: &ObjectName) -> Seen {
        if name.0.is_empty() || name.0.len() > 3 {
            return refuse(
                "a table name of more than three parts",
                "write council.department.product",
            );
        }
        for part in &name.0 {
            match part {
                ObjectNamePart::Identifier(word) => table_word(word)?,
                ObjectNamePart::Function(_) => return refuse("a table name that is computed", ""),
            }
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, table: &TableFactor) -> Seen {
        match table {
            TableFactor::Table {
                name: _,
                alias: _,
                args,
                with_hints,
                version,
                with_ordinality,
                partitions,
                json_path,
                sample,
                index_hints,
            } => {
                refuse_if(args.is_some(), "a table function")?;
                refuse_if(
                    !with_hints.is_empty()
                        || version.is_some()
                        || *with_ordinality
                        || !partitions.is_empty()
                        || json_path.is_some()
                        || sample.is_some()
                        || !index_hints.is_empty(),
                    "a hint, version, sample or partition of a table",
                )
            }
            TableFactor::Derived {
                lateral,
                subquery: _,
                alias: _,
                sample,
            } => {
                refuse_if(*lateral, "LATERAL")?;
                refuse_if(sample.is_some(), "a sample of a table")
            }
            TableFactor::NestedJoin { .. } => ControlFlow::Continue(()),
            TableFactor::TableFunction { .. } | TableFactor::Function { .. } => {
                refuse("a table function", "")
            }
            TableFactor::UNNEST { .. } => refuse("UNNEST", ""),
            TableFactor::Pivot { .. } | TableFactor::Unpivot { .. } => refuse(
                "PIVOT and UNPIVOT",
                "write `CASE` or `FILTER` in aggregates",
            ),
            _ => refuse("this kind of table", ""),
        }
    }

    fn pre_visit_expr(&mut self, e: &Expr) -> Seen {
        match e {
            Expr::Identifier(word) => column_word(word),
            Expr::CompoundIdentifier(words) => words.iter().try_for_each(column_word),
            Expr::Function(f) => function(f),
            Expr::BinaryOp { op, .. } => binary(op),
            Expr::UnaryOp { op, .. } => match op {
                UnaryOperator::Plus | UnaryOperator::Minus | UnaryOperator::Not => {
                    ControlFlow::Continue(())
                }
                _ => refuse("this operator", ""),
            },
            Expr::Cast {
                kind,
                array,
                format,
                ..
            } => {
                refuse_if(format.is_some() || *array, "a CAST with a format")?;
                match kind {
                    CastKind::Cast | CastKind::TryCast | CastKind::DoubleColon => {
                        ControlFlow::Continue(())
                    }
                    CastKind::SafeCast => refuse("SAFE_CAST", "write TRY_CAST"),
                }
            }
            Expr::Like { any, .. } | Expr::ILike { any, .. } => refuse_if(*any, "LIKE ANY"),
            Expr::IsFalse(_)
            | Expr::IsNotFalse(_)
            | Expr::IsTrue(_)
            | Expr::IsNotTrue(_)
            | Expr::IsNull(_)
            | Expr::IsNotNull(_)
            | Expr::IsUnknown(_)
            | Expr::IsNotUnknown(_)
            | Expr::IsDistinctFrom(_, _)
            | Expr::IsNotDistinctFrom(_, _)
            | Expr::InList { .. }
            | Expr::InSubquery { .. }
            | Expr::Between { .. }
            | Expr::SimilarTo { .. }
            | Expr::AtTimeZone { .. }
            | Expr::Extract { .. }
            | Expr::Ceil { .. }
            | Expr::Floor { .. }
            | Expr::Position { .. }
            | Expr::Substring { .. }
            | Expr::Trim { .. }
            | Expr::Overlay { .. }
            | Expr::Nested(_)
            | Expr::Value(_)
            | Expr::TypedString(_)
            | Expr::Case { .. }
            | Expr::Exists { .. }
            | Expr::Subquery(_)
            | Expr::GroupingSets(_)
            | Expr::Cube(_)
            | Expr::Rollup(_)
            | Expr::Tuple(_)
            | Expr::Interval(_)
            | Expr::Wildcard(_)
            | Expr::QualifiedWildcard(_, _) => ControlFlow::Continue(()),
            Expr::Array(_) | Expr::Struct { .. } | Expr::Map(_) | Expr::Dictionary(_) => {
                refuse("a nested value", "")
            }
            Expr::AnyOp { .. } | Expr::AllOp { .. } => refuse("ANY and ALL", "write IN or EXISTS"),
            Expr::Lambda(_) => refuse("a lambda", ""),
            Expr::Collate { .. } => refuse("COLLATE", ""),
            _ => refuse("this kind of expression", ""),
        }
    }

    fn pre_visit_value(&mut self, value: &ValueWithSpan) -> Seen {
        match &value.value {
            Value::Number(_, _)
            | Value::SingleQuotedString(_)
            | Value::DollarQuotedString(_)
            | Value::EscapedStringLiteral(_)
            | Value::UnicodeStringLiteral(_)
            | Value::NationalStringLiteral(_)
            | Value::HexStringLiteral(_)
            | Value::DoubleQuotedString(_)
            | Value::Boolean(_)
            | Value::Null
            | Value::Placeholder(_) => ControlFlow::Continue(()),
            _ => refuse("this kind of literal", ""),
        }
    }
}

/// The parts of a query that are statements in themselves are not visited as statements.
fn body(body: &SetExpr) -> Seen {
    match body {
        SetExpr::Select(_) | SetExpr::Query(_) | SetExpr::Values(_) => ControlFlow::Continue(()),
        SetExpr::SetOperation { left, right, .. } => {
            self::body(left)?;
            self::body(right)
        }
        SetExpr::Insert(s) | SetExpr::Update(s) | SetExpr::Delete(s) | SetExpr::Merge(s) => {
            refuse(statement_name(s), "")
        }
        SetExpr::Table(_) => refuse("TABLE", "write SELECT * FROM"),
    }
}

fn table_word(word: &Ident) -> Seen {
    let looks_like_a_file =
        word.value.contains(['/', '\\', ':', '*', '?']) || word.quote_style == Some('\'');
    if looks_like_a_file {
        return refuse(
            "a file or address in place of a table",
            "write council.department.product",
        );
    }
    column_word(word)
}

fn column_word(word: &Ident) -> Seen {
    refuse_if(
        word.quote_style.is_none() && word.value.starts_with('@'),
        "a variable",
    )
}

fn function(f: &Function) -> Seen {
    let [ObjectNamePart::Identifier(word)] = f.name.0.as_slice() else {
        return refuse("a function of another schema", "");
    };
    let name = match word.quote_style {
        None => word.value.to_ascii_lowercase(),
        Some(_) => word.value.clone(),
    };
    if !functions::is_known(&name) {
        let shown: String = name
            .chars()
            .filter(|c| c.is_ascii_alphanumeric() || *c == '_')
            .take(64)
            .collect();
        return refuse(format!("the function `{shown}`"), "");
    }
    refuse_if(
        !matches!(f.parameters, FunctionArguments::None),
        "a function with parameters",
    )?;
    refuse_if(
        matches!(f.args, FunctionArguments::Subquery(_)),
        "a query as a function's argument",
    )
}

fn binary(op: &BinaryOperator) -> Seen {
    match op {
        BinaryOperator::Plus
        | BinaryOperator::Minus
        | BinaryOperator::Multiply
        | BinaryOperator::Divide
        | BinaryOperator::Modulo
        | BinaryOperator::StringConcat
        | BinaryOperator::Gt
        | BinaryOperator::Lt
        | BinaryOperator::GtEq
        | BinaryOperator::LtEq
        | BinaryOperator::Eq
        | BinaryOperator::NotEq
        | BinaryOperator::And
        | BinaryOperator::Or
        | BinaryOperator::BitwiseOr
        | BinaryOperator::BitwiseAnd
        | BinaryOperator::BitwiseXor
        | BinaryOperator::PGBitwiseXor
        | BinaryOperator::PGBitwiseShiftLeft
        | BinaryOperator::PGBitwiseShiftRight
        | BinaryOperator::PGRegexMatch
        | BinaryOperator::PGRegexIMatch
        | BinaryOperator::PGRegexNotMatch
        | BinaryOperator::PGRegexNotIMatch => ControlFlow::Continue(()),
        _ => refuse("this operator", ""),
    }
}

/// What a statement is called: its first words, which are key words.
pub(super) fn statement_name(statement: &Statement) -> String {
    match statement {
        Statement::Insert(_) => "INSERT".to_owned(),
        Statement::Update(_) => "UPDATE".to_owned(),
        Statement::Delete(_) => "DELETE".to_owned(),
        Statement::Merge(_) => "MERGE".to_owned(),
        Statement::Copy { .. } | Statement::CopyIntoSnowflake { .. } => "COPY".to_owned(),
        Statement::CreateTable(_) => "CREATE TABLE".to_owned(),
        Statement::CreateView(_) => "CREATE VIEW".to_owned(),
        Statement::Drop { .. } => "DROP".to_owned(),
        Statement::Truncate(_) => "TRUNCATE".to_owned(),
        Statement::AlterTable(_) => "ALTER TABLE".to_owned(),
        Statement::StartTransaction { .. } => "a transaction".to_owned(),
        Statement::Commit { .. } | Statement::Rollback { .. } => "a transaction".to_owned(),
        Statement::Prepare { .. } | Statement::Execute { .. } | Statement::Deallocate { .. } => {
            "PREPARE in SQL".to_owned()
        }
        Statement::Set(_) => "SET inside another statement".to_owned(),
        _ => "this statement".to_owned(),
    }
}
