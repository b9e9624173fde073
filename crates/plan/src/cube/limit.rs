//! What a filter on private rows limits: one value, or one registered group, of a dimension.

use super::source::{Source, dimension, expression, source};
use super::value::{convert, tells_apart, text_of, widens};
use super::{CubeFilter, Refusal};
use arrow::datatypes::DataType;
use datafusion::common::{DFSchema, ScalarValue};
use datafusion::logical_expr::expr::InList;
use datafusion::logical_expr::{BinaryExpr, Expr, Operator};
use guildhall_grant::product::{Dimension, Product, RollUpKind};

/// Adds a limit; the same one twice is one, two of one dimension are refused.
pub(super) fn add(filter: CubeFilter, to: &mut Vec<CubeFilter>) -> Result<(), Refusal> {
    if to.contains(&filter) {
        return Ok(());
    }
    if to.iter().any(|f| f.column() == filter.column()) {
        return Err(Refusal::new(
            "cube.one-filter",
            format!("`{}` is filtered twice", filter.column()),
            "filter each dimension once, by one value or one registered group",
        ));
    }
    to.push(filter);
    Ok(())
}

fn predicate(what: &str) -> Refusal {
    Refusal::new(
        "cube.predicate",
        format!("{what} in a filter on private rows"),
        "filter a dimension by one value, or by IN over exactly the values of a registered group; or group by it and filter the cells with HAVING",
    )
}

pub(super) fn no_value() -> Refusal {
    Refusal::new(
        "cube.value",
        "a dimension is compared with something that is not a value of its type",
        "compare it with one literal of its own type",
    )
}

/// The limit that one conjunct sets; none if it is always true.
pub(super) fn limit(
    e: &Expr,
    schema: &DFSchema,
    input: &[Source],
    product: &Product,
) -> Result<Option<CubeFilter>, Refusal> {
    let truth = |e: &Expr, value: bool| -> Result<Option<CubeFilter>, Refusal> {
        match source(e, schema, input, product) {
            s @ Source::Column {
                data_type: DataType::Boolean,
                ..
            } => equals(s, &ScalarValue::Boolean(Some(value)), product).map(Some),
            Source::Other(refusal) => Err(refusal),
            _ => Err(predicate("a condition that is no equality")),
        }
    };
    match e {
        Expr::Alias(a) => limit(&a.expr, schema, input, product),
        Expr::Literal(ScalarValue::Boolean(Some(true)), _) => Ok(None),
        Expr::Column(_) => truth(e, true),
        Expr::IsTrue(e) => truth(e, true),
        Expr::Not(e) if matches!(**e, Expr::Column(_)) => truth(e, false),
        Expr::IsFalse(e) => truth(e, false),
        Expr::BinaryExpr(BinaryExpr {
            left,
            op: Operator::Eq,
            right,
        }) => {
            let left = source(left, schema, input, product);
            let right = source(right, schema, input, product);
            match (left, right) {
                (Source::Literal(a), Source::Literal(b)) if a == b && !a.is_null() => Ok(None),
                (Source::Other(refusal), _) | (_, Source::Other(refusal)) => Err(refusal),
                (Source::Literal(_), Source::Literal(_)) => Err(no_value()),
                (Source::Literal(v), s) | (s, Source::Literal(v)) => {
                    equals(s, &v, product).map(Some)
                }
                _ => Err(predicate("a comparison of two columns")),
            }
        }
        Expr::InList(list) => within(list, schema, input, product).map(Some),
        Expr::BinaryExpr(b) => Err(predicate(match b.op {
            Operator::Or => "OR",
            Operator::NotEq => "`<>`",
            Operator::Lt | Operator::LtEq | Operator::Gt | Operator::GtEq => "a range",
            _ => "a condition that is no equality",
        })),
        Expr::Between(_) => Err(predicate("a range")),
        Expr::Not(_) | Expr::IsNotTrue(_) | Expr::IsNotFalse(_) => Err(predicate("NOT")),
        Expr::Like(_) | Expr::SimilarTo(_) => Err(predicate("LIKE")),
        Expr::IsNull(_) | Expr::IsNotNull(_) | Expr::IsUnknown(_) | Expr::IsNotUnknown(_) => {
            Err(predicate("IS NULL"))
        }
        Expr::Exists(_)
        | Expr::InSubquery(_)
        | Expr::ScalarSubquery(_)
        | Expr::SetComparison(_) => Err(predicate("a sub-query")),
        _ => Err(predicate("a condition that is no equality")),
    }
}

/// The limit that `of` equals `value`.
fn equals(of: Source, value: &ScalarValue, product: &Product) -> Result<CubeFilter, Refusal> {
    match of {
        Source::Column { column, data_type } => {
            dimension(&column, product)?;
            let value = convert(value, &data_type).ok_or_else(no_value)?;
            Ok(CubeFilter::Eq {
                column,
                roll_up: None,
                value,
            })
        }
        Source::Widened { column, from, to } => {
            dimension(&column, product)?;
            let wide = convert(value, &to).ok_or_else(no_value)?;
            if !tells_apart(&from, &to, &wide) {
                return Err(expression());
            }
            let value = convert(&wide, &from).ok_or_else(no_value)?;
            Ok(CubeFilter::Eq {
                column,
                roll_up: None,
                value,
            })
        }
        Source::RollUp {
            column,
            roll_up,
            data_type,
            wide,
        } => {
            let wide = wide.as_ref().unwrap_or(&data_type);
            let value = convert(value, wide)
                .and_then(|v| convert(&v, &data_type))
                .ok_or_else(no_value)?;
            Ok(CubeFilter::Eq {
                column,
                roll_up: Some(roll_up),
                value,
            })
        }
        Source::Literal(_) => Err(no_value()),
        Source::Other(refusal) => Err(refusal),
    }
}

/// The limit of an `IN` list: one value, or exactly a registered group.
fn within(
    list: &InList,
    schema: &DFSchema,
    input: &[Source],
    product: &Product,
) -> Result<CubeFilter, Refusal> {
    if list.negated {
        return Err(predicate("NOT IN"));
    }
    let of = source(&list.expr, schema, input, product);
    let mut values = Vec::with_capacity(list.list.len());
    for e in &list.list {
        match source(e, schema, input, product) {
            Source::Literal(v) => values.push(v),
            Source::Other(refusal) => return Err(refusal),
            _ => return Err(predicate("a list of anything but values")),
        }
    }
    if let [value] = values.as_slice() {
        return equals(of, value, product);
    }
    let (column, from, to) = match of {
        Source::Column { column, data_type } => (column, data_type.clone(), data_type),
        Source::Widened { column, from, to } if widens(&from, &to) => (column, from, to),
        Source::Other(refusal) => return Err(refusal),
        Source::Widened { .. } | Source::RollUp { .. } | Source::Literal(_) => {
            return Err(expression());
        }
    };
    let dimension = dimension(&column, product)?;
    let mut typed = Vec::with_capacity(values.len());
    for value in &values {
        let value = convert(value, &to)
            .and_then(|v| convert(&v, &from))
            .ok_or_else(no_value)?;
        let text = text_of(&value).ok_or_else(no_value)?;
        typed.push((text, value));
    }
    typed.sort_by(|a, b| a.0.cmp(&b.0));
    typed.dedup_by(|a, b| a.0 == b.0);
    let group = dimension.roll_ups.iter().find(|r| match &r.kind {
        RollUpKind::Group(members) => {
            let mut members: Vec<&str> = members.iter().map(String::as_str).collect();
            members.sort_unstable();
            members.dedup();
            members
                .iter()
                .copied()
                .eq(typed.iter().map(|(text, _)| text.as_str()))
        }
        RollUpKind::DateTrunc(_) => false,
    });
    match group {
        Some(roll_up) => Ok(CubeFilter::InRollUp {
            column,
            roll_up: roll_up.clone(),
            values: typed.into_iter().map(|(_, value)| value).collect(),
        }),
        None => Err(Refusal::new(
            "cube.group",
            format!("the values that `{column}` is filtered by are not a registered group"),
            groups(dimension),
        )),
    }
}

fn groups(dimension: &Dimension) -> String {
    let names: Vec<&str> = dimension
        .roll_ups
        .iter()
        .filter(|r| matches!(r.kind, RollUpKind::Group(_)))
        .map(|r| r.name.as_str())
        .collect();
    let group_by = format!("group by `{}` and add up the cells", dimension.column);
    if names.is_empty() {
        group_by
    } else {
        format!(
            "list exactly the values of one of its groups ({}), or {group_by}",
            names.join(", ")
        )
    }
}
