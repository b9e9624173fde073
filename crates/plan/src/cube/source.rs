//! Where each column of a relation comes from: the way down from an aggregation to its product.

use super::limit::{add, limit, no_value};
use super::value::{text_of, widens, widens_number};
use super::{CubeFilter, Refusal};
use arrow::datatypes::DataType;
use datafusion::common::{DFSchema, ScalarValue};
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::utils::split_conjunction;
use datafusion::logical_expr::{Expr, LogicalPlan, TableScan};
use guildhall_grant::product::{Dimension, Product, RollUp, RollUpKind};
use guildhall_model::{ColumnClass, ColumnName};

/// What a column of a relation, or an expression over it, is made of.
#[derive(Debug, Clone)]
pub(super) enum Source {
    /// A column of the product as it is.
    Column {
        column: ColumnName,
        data_type: DataType,
    },
    /// A column cast to a type that keeps its values apart, or a number cast to a wider one.
    Widened {
        column: ColumnName,
        from: DataType,
        to: DataType,
    },
    /// A registered `date_trunc` of a dimension, of type `data_type`; `wide` if it was cast to
    /// a type that keeps its values apart.
    RollUp {
        column: ColumnName,
        roll_up: RollUp,
        data_type: DataType,
        wide: Option<DataType>,
    },
    /// A literal of the statement.
    Literal(ScalarValue),
    /// Anything else. It is refused where it is used, not where it is computed.
    Other(Refusal),
}

/// A relation over the product: its columns, in the order of its schema, and its limits.
#[derive(Debug)]
pub(super) struct Relation {
    pub(super) columns: Vec<Source>,
    pub(super) filters: Vec<CubeFilter>,
}

/// The way down from `plan` to the product. Anything on it but renaming, projecting and limiting
/// by the grammar is refused.
pub(super) fn relation(plan: &LogicalPlan, product: &Product) -> Result<Relation, Refusal> {
    match plan {
        LogicalPlan::TableScan(scan) => scanned(scan, product),
        LogicalPlan::SubqueryAlias(alias) => relation(&alias.input, product),
        LogicalPlan::Projection(p) => {
            let input = relation(&p.input, product)?;
            let columns = p
                .expr
                .iter()
                .map(|e| source(e, p.input.schema(), &input.columns, product))
                .collect();
            Ok(Relation {
                columns,
                filters: input.filters,
            })
        }
        LogicalPlan::Filter(f) => {
            let mut input = relation(&f.input, product)?;
            for part in split_conjunction(&f.predicate) {
                if let Some(filter) = limit(part, f.input.schema(), &input.columns, product)? {
                    add(filter, &mut input.filters)?;
                }
            }
            Ok(input)
        }
        LogicalPlan::Join(_) => Err(Refusal::new(
            "cube.one-product",
            format!(
                "a private product, here `{}`, is joined with another table",
                product.product_ref()
            ),
            "aggregate it first, in a sub-query, and join the cells",
        )),
        LogicalPlan::Union(_) => Err(Refusal::new(
            "cube.one-product",
            format!(
                "a private product, here `{}`, is united with another table",
                product.product_ref()
            ),
            "aggregate each part on its own and unite the cells",
        )),
        LogicalPlan::Aggregate(_) | LogicalPlan::Distinct(_) => Err(Refusal::new(
            "cube.nested",
            "an aggregation of an aggregation of private rows",
            "group once, by registered dimensions; released cells may be computed with freely",
        )),
        LogicalPlan::Window(_) => Err(Refusal::new(
            "cube.window",
            "a window function over private rows",
            "aggregate first; window functions may be used over released cells",
        )),
        LogicalPlan::Sort(_) | LogicalPlan::Limit(_) => Err(Refusal::new(
            "cube.limit",
            "private rows are sorted or limited before they are aggregated",
            "sort and limit the cells, after the aggregation",
        )),
        LogicalPlan::Repartition(_)
        | LogicalPlan::EmptyRelation(_)
        | LogicalPlan::Subquery(_)
        | LogicalPlan::Statement(_)
        | LogicalPlan::Values(_)
        | LogicalPlan::Explain(_)
        | LogicalPlan::Analyze(_)
        | LogicalPlan::Extension(_)
        | LogicalPlan::Dml(_)
        | LogicalPlan::Ddl(_)
        | LogicalPlan::Copy(_)
        | LogicalPlan::DescribeTable(_)
        | LogicalPlan::Unnest(_)
        | LogicalPlan::RecursiveQuery(_) => Err(Refusal::new(
            "cube.form",
            "an aggregation that is not directly over one product",
            "select from the product, filter and group it, and nothing else, in one sub-query",
        )),
    }
}

fn scanned(scan: &TableScan, product: &Product) -> Result<Relation, Refusal> {
    let named = crate::profile::product_of(&scan.table_name);
    if !named.is_ok_and(|n| n == product.product_ref()) {
        return Err(Refusal::new(
            "cube.one-product",
            format!(
                "the aggregation is not over product `{}`",
                product.product_ref()
            ),
            "ask each product on its own",
        ));
    }
    if scan.fetch.is_some() {
        return Err(Refusal::new(
            "cube.limit",
            "private rows are limited before they are aggregated",
            "limit the cells, after the aggregation",
        ));
    }
    let columns: Vec<Source> = scan
        .projected_schema
        .fields()
        .iter()
        .map(|f| product_column(f.name(), f.data_type(), product))
        .collect();
    // Filters of a scan speak of all its columns, projected or not.
    let table = scan.source.schema();
    let all: Vec<Source> = table
        .fields()
        .iter()
        .map(|f| product_column(f.name(), f.data_type(), product))
        .collect();
    let schema = DFSchema::try_from_qualified_schema(scan.table_name.clone(), &table)
        .map_err(|_| unreadable())?;
    let mut filters = Vec::new();
    for predicate in &scan.filters {
        for part in split_conjunction(predicate) {
            if let Some(filter) = limit(part, &schema, &all, product)? {
                add(filter, &mut filters)?;
            }
        }
    }
    Ok(Relation { columns, filters })
}

fn product_column(name: &str, data_type: &DataType, product: &Product) -> Source {
    match product.column(name) {
        Some(c) => Source::Column {
            column: c.name.clone(),
            data_type: data_type.clone(),
        },
        None => Source::Other(unreadable()),
    }
}

fn unreadable() -> Refusal {
    Refusal::new(
        "cube.form",
        "the question names a column that the product does not have",
        "see `information_schema.columns` for the product's columns",
    )
}

pub(super) fn expression() -> Refusal {
    Refusal::new(
        "cube.expression",
        "an expression over private columns",
        "group and filter by registered dimensions as they are, or by a registered roll-up of them, such as date_trunc('month', ...)",
    )
}

/// What `e` is made of, over an input of that schema and those sources.
pub(super) fn source(e: &Expr, schema: &DFSchema, input: &[Source], product: &Product) -> Source {
    match e {
        Expr::Alias(a) => source(&a.expr, schema, input, product),
        Expr::Column(c) => match schema.maybe_index_of_column(c).and_then(|i| input.get(i)) {
            Some(found) => found.clone(),
            None => Source::Other(unreadable()),
        },
        Expr::Literal(v, _) => Source::Literal(v.clone()),
        Expr::Cast(c) => cast(source(&c.expr, schema, input, product), c.field.data_type()),
        Expr::ScalarFunction(f) if f.name() == "date_trunc" => truncated(f, schema, input, product),
        _ => Source::Other(expression()),
    }
}

fn cast(inner: Source, to: &DataType) -> Source {
    match inner {
        Source::Column { column, data_type } if data_type == *to => {
            Source::Column { column, data_type }
        }
        Source::Column {
            column,
            data_type: from,
        } if widens(&from, to) || widens_number(&from, to) => Source::Widened {
            column,
            from,
            to: to.clone(),
        },
        Source::Literal(v) => match v.cast_to(to) {
            Ok(v) => Source::Literal(v),
            Err(_) => Source::Other(no_value()),
        },
        Source::RollUp {
            column,
            roll_up,
            data_type,
            wide: None,
        } if widens(&data_type, to) => {
            let wide = (data_type != *to).then(|| to.clone());
            Source::RollUp {
                column,
                roll_up,
                data_type,
                wide,
            }
        }
        Source::Other(refusal) => Source::Other(refusal),
        Source::Column { .. } | Source::Widened { .. } | Source::RollUp { .. } => {
            Source::Other(expression())
        }
    }
}

fn truncated(f: &ScalarFunction, schema: &DFSchema, input: &[Source], product: &Product) -> Source {
    let [unit, of] = f.args.as_slice() else {
        return Source::Other(expression());
    };
    let Source::Literal(unit) = source(unit, schema, input, product) else {
        return Source::Other(expression());
    };
    let Some(unit) = text_of(&unit).map(|u| u.to_ascii_lowercase()) else {
        return Source::Other(expression());
    };
    let (column, data_type) = match source(of, schema, input, product) {
        Source::Column { column, data_type } => (column, data_type),
        Source::Widened { column, from, to } if widens(&from, &to) => (column, to),
        Source::Other(refusal) => return Source::Other(refusal),
        Source::Widened { .. } | Source::RollUp { .. } | Source::Literal(_) => {
            return Source::Other(expression());
        }
    };
    if !matches!(data_type, DataType::Timestamp(_, None)) {
        return Source::Other(expression());
    }
    let dimension = match dimension(&column, product) {
        Ok(d) => d,
        Err(refusal) => return Source::Other(refusal),
    };
    let registered = dimension
        .roll_ups
        .iter()
        .find(|r| matches!(&r.kind, RollUpKind::DateTrunc(u) if u.eq_ignore_ascii_case(&unit)));
    match registered {
        Some(roll_up) => Source::RollUp {
            column,
            roll_up: roll_up.clone(),
            data_type,
            wide: None,
        },
        None => Source::Other(Refusal::new(
            "cube.roll-up",
            format!("`{column}` is not registered for this unit of date_trunc"),
            offered(dimension),
        )),
    }
}

fn offered(dimension: &Dimension) -> String {
    let units: Vec<&str> = dimension
        .roll_ups
        .iter()
        .filter_map(|r| match &r.kind {
            RollUpKind::DateTrunc(u) => Some(u.as_str()),
            RollUpKind::Group(_) => None,
        })
        .collect();
    if units.is_empty() {
        format!("group by `{}` itself", dimension.column)
    } else {
        format!(
            "the units registered for `{}` are: {}",
            dimension.column,
            units.join(", ")
        )
    }
}

/// The dimension over `column`, if it is registered and of a class that may be grouped by.
pub(super) fn dimension<'a>(
    column: &ColumnName,
    product: &'a Product,
) -> Result<&'a Dimension, Refusal> {
    let names = || {
        let names: Vec<&str> = product
            .dimensions
            .iter()
            .map(|d| d.column.as_str())
            .collect();
        if names.is_empty() {
            format!(
                "product `{}` has no dimensions: ask for totals only",
                product.product_ref()
            )
        } else {
            format!("its dimensions are: {}", names.join(", "))
        }
    };
    match product.column(column.as_str()).map(|c| c.class) {
        Some(ColumnClass::Open | ColumnClass::Quasi) => {}
        Some(ColumnClass::Identifier | ColumnClass::Secret) | None => {
            return Err(Refusal::new(
                "cube.identifier",
                format!(
                    "`{column}` names persons or things and is neither grouped nor filtered by"
                ),
                names(),
            ));
        }
        Some(ColumnClass::Measure) => {
            return Err(Refusal::new(
                "cube.dimension",
                format!("`{column}` is a measure and is neither grouped nor filtered by"),
                names(),
            ));
        }
    }
    product.dimension(column.as_str()).ok_or_else(|| {
        Refusal::new(
            "cube.dimension",
            format!(
                "`{column}` is not a registered dimension of product `{}`",
                product.product_ref()
            ),
            names(),
        )
    })
}
