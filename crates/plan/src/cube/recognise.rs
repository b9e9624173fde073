//! From an aggregation to a question of the cube.

use super::axes::axes;
use super::source::{Relation, Source, dimension, relation, source};
use super::value::{widens, widens_number};
use super::{CubeAgg, CubeAggregate, CubeKey, CubeQuery, Refusal};
use arrow::datatypes::DataType;
use datafusion::common::DFSchema;
use datafusion::logical_expr::expr::{AggregateFunction, NullTreatment};
use datafusion::logical_expr::{Distinct, Expr, LogicalPlan};
use guildhall_grant::product::Product;
use guildhall_model::{ColumnClass, ColumnName, ReleaseClass};

/// The most keys that one question may have.
const MAX_KEYS: usize = 8;

/// Reads `plan`, an aggregation (or `DISTINCT`) with nothing above it, as a question to the cube of `product`.
///
/// The columns of the answer are those of `plan`, in its order.
pub fn recognise(plan: &LogicalPlan, product: &Product) -> Result<CubeQuery, Refusal> {
    let unit = match (product.class, &product.unit) {
        (ReleaseClass::Aggregate, Some(unit)) => unit.clone(),
        _ => {
            return Err(Refusal::new(
                "cube.class",
                format!("product `{}` does not release cells", product.product_ref()),
                "ask for what its class releases",
            ));
        }
    };
    let aggregate = match plan {
        LogicalPlan::Aggregate(aggregate) => aggregate,
        LogicalPlan::Distinct(Distinct::All(input)) => return distinct(input, unit, product),
        _ => return Err(rows(product)),
    };
    let input = relation(&aggregate.input, product)?;
    let schema = aggregate.input.schema();
    if aggregate
        .group_expr
        .iter()
        .any(|e| matches!(e, Expr::GroupingSet(_)))
    {
        return Err(Refusal::new(
            "cube.grouping-sets",
            "GROUPING SETS, ROLLUP and CUBE over a private product",
            "ask each grouping in a query of its own and unite the cells",
        ));
    }
    let width = aggregate
        .group_expr
        .len()
        .saturating_add(aggregate.aggr_expr.len());
    if aggregate.schema.fields().len() != width {
        return Err(Refusal::new(
            "cube.form",
            "the same key twice",
            "group by each dimension once",
        ));
    }
    let sources = aggregate
        .group_expr
        .iter()
        .map(|e| source(e, schema, &input.columns, product));
    let keys = keys(sources.collect(), &aggregate.schema, product)?;
    let mut aggregates = Vec::with_capacity(aggregate.aggr_expr.len());
    let outputs = aggregate.schema.fields().iter().skip(keys.len());
    for (e, field) in aggregate.aggr_expr.iter().zip(outputs) {
        let (told, argument) = told(e, aggregate.input.schema(), &input, &unit, product)?;
        aggregates.push(CubeAggregate {
            name: field.name().clone(),
            aggregate: told,
            argument,
            data_type: field.data_type().clone(),
        });
    }
    lies_in_a_lattice(
        CubeQuery {
            product: product.product_ref(),
            unit,
            keys,
            filters: input.filters,
            aggregates,
        },
        product,
    )
}

/// `query`, if what is told of its cells can be weighed against what is told of coarser ones.
fn lies_in_a_lattice(query: CubeQuery, product: &Product) -> Result<CubeQuery, Refusal> {
    axes(&query, product)?;
    Ok(query)
}

fn rows(product: &Product) -> Refusal {
    Refusal::new(
        "cube.rows",
        format!(
            "product `{}` releases cells, not rows",
            product.product_ref()
        ),
        "aggregate: count(*), or count, sum and avg of its measures, grouped by its dimensions",
    )
}

/// `SELECT DISTINCT` of dimensions: which cells there are, and nothing of them.
fn distinct(
    input: &LogicalPlan,
    unit: ColumnName,
    product: &Product,
) -> Result<CubeQuery, Refusal> {
    let Relation { columns, filters } = relation(input, product)?;
    let keys = keys(columns, input.schema(), product)?;
    if keys.is_empty() {
        return Err(rows(product));
    }
    lies_in_a_lattice(
        CubeQuery {
            product: product.product_ref(),
            unit,
            keys,
            filters,
            aggregates: Vec::new(),
        },
        product,
    )
}

/// The keys that `sources` are, named and typed as the first columns of `output`.
fn keys(
    sources: Vec<Source>,
    output: &DFSchema,
    product: &Product,
) -> Result<Vec<CubeKey>, Refusal> {
    if sources.len() > MAX_KEYS {
        return Err(Refusal::new(
            "cube.keys",
            format!("a question has more than {MAX_KEYS} keys"),
            "group by fewer dimensions",
        ));
    }
    let mut keys = Vec::with_capacity(sources.len());
    for (of, field) in sources.into_iter().zip(output.fields()) {
        let (column, roll_up, data_type) = match of {
            Source::Column { column, data_type } => (column, None, data_type),
            Source::RollUp {
                column,
                roll_up,
                data_type,
                wide: None,
            } => (column, Some(roll_up), data_type),
            Source::Other(refusal) => return Err(refusal),
            Source::Widened { .. } | Source::RollUp { .. } | Source::Literal(_) => {
                return Err(Refusal::new(
                    "cube.expression",
                    "a key that is not a dimension or a registered roll-up of one",
                    "group by registered dimensions as they are",
                ));
            }
        };
        dimension(&column, product)?;
        if data_type != *field.data_type() {
            return Err(Refusal::new(
                "cube.form",
                "a key whose type is not what its column gives",
                "plan the question again",
            ));
        }
        keys.push(CubeKey {
            name: field.name().clone(),
            column,
            roll_up,
            data_type,
        });
    }
    Ok(keys)
}

/// What one aggregate tells, and the type its argument is widened to.
fn told(
    e: &Expr,
    schema: &DFSchema,
    input: &Relation,
    unit: &ColumnName,
    product: &Product,
) -> Result<(CubeAgg, Option<DataType>), Refusal> {
    let f = match e {
        Expr::Alias(a) => return told(&a.expr, schema, input, unit, product),
        Expr::AggregateFunction(f) => f,
        _ => return Err(no_aggregate(None)),
    };
    plain(f)?;
    let name = f.func.name();
    if !matches!(name, "count" | "sum" | "avg") {
        return Err(no_aggregate(Some(name)));
    }
    let argument = match f.params.args.as_slice() {
        [] if name == "count" => return Ok((CubeAgg::CountRows, None)),
        [one] => source(one, schema, &input.columns, product),
        _ => return Err(no_aggregate(Some(name))),
    };
    if f.params.distinct {
        return match argument {
            Source::Column { column, .. } if name == "count" && column == *unit => {
                Ok((CubeAgg::CountUnits, None))
            }
            _ => Err(Refusal::new(
                "cube.distinct",
                "DISTINCT of anything but the product's unit",
                format!("count(DISTINCT {unit}) tells how many units a cell has"),
            )),
        };
    }
    match (name, argument) {
        ("count", Source::Literal(v)) if !v.is_null() => Ok((CubeAgg::CountRows, None)),
        ("count", Source::Column { column, .. }) => {
            measure(&column, "count", unit, product)?;
            Ok((CubeAgg::CountMeasure(column), None))
        }
        (_, Source::Other(refusal)) => Err(refusal),
        ("sum" | "avg", Source::Column { column, data_type }) => {
            numeric(&data_type, &column)?;
            measure(&column, name, unit, product)?;
            Ok((added(name, column), None))
        }
        ("sum" | "avg", Source::Widened { column, from, to }) if widens_number(&from, &to) => {
            measure(&column, name, unit, product)?;
            Ok((added(name, column), Some(to)))
        }
        ("count", Source::Widened { column, from, to }) if widens(&from, &to) => {
            measure(&column, "count", unit, product)?;
            Ok((CubeAgg::CountMeasure(column), None))
        }
        _ => Err(Refusal::new(
            "cube.expression",
            format!("`{name}` of an expression over private columns"),
            format!("{name} a registered measure as it is, and compute with the released cells"),
        )),
    }
}

fn added(name: &str, column: ColumnName) -> CubeAgg {
    if name == "sum" {
        CubeAgg::Sum(column)
    } else {
        CubeAgg::Avg(column)
    }
}

/// Refuses what an aggregate may carry besides its argument.
fn plain(f: &AggregateFunction) -> Result<(), Refusal> {
    let params = &f.params;
    if params.filter.is_some() {
        return Err(Refusal::new(
            "cube.filter-clause",
            "FILTER in an aggregate of private rows",
            "write the condition in WHERE, one question for each, or group by the dimension",
        ));
    }
    if !params.order_by.is_empty() || params.null_treatment == Some(NullTreatment::IgnoreNulls) {
        return Err(Refusal::new(
            "cube.aggregate",
            "ORDER BY or IGNORE NULLS in an aggregate of private rows",
            "use count, sum and avg as they are",
        ));
    }
    Ok(())
}

fn no_aggregate(name: Option<&str>) -> Refusal {
    let what = name.map_or_else(
        || "something that is no aggregate".to_owned(),
        |n| format!("`{n}` of private rows"),
    );
    Refusal::new(
        "cube.aggregate",
        what,
        "the aggregates of a private product are count, count(DISTINCT unit), sum and avg",
    )
}

fn numeric(t: &DataType, column: &ColumnName) -> Result<(), Refusal> {
    if t.is_numeric() {
        return Ok(());
    }
    Err(Refusal::new(
        "cube.measure",
        format!("`{column}` is not a number"),
        "sum and average registered measures",
    ))
}

/// Checks that `column` is a registered measure of a class that may be added up.
fn measure(
    column: &ColumnName,
    function: &str,
    unit: &ColumnName,
    product: &Product,
) -> Result<(), Refusal> {
    let class = product.column(column.as_str()).map(|c| c.class);
    let may = matches!(
        class,
        Some(ColumnClass::Open | ColumnClass::Quasi | ColumnClass::Measure)
    );
    if may && product.measure(column.as_str()).is_some() {
        return Ok(());
    }
    let names: Vec<&str> = product.measures.iter().map(|m| m.column.as_str()).collect();
    let instead = if function == "count" {
        format!("count(*) counts rows, count(DISTINCT {unit}) counts units")
    } else if names.is_empty() {
        "the product has no measures: ask for counts".to_owned()
    } else {
        format!("its measures are: {}", names.join(", "))
    };
    Err(Refusal::new(
        "cube.measure",
        format!(
            "`{column}` is not a registered measure of product `{}`",
            product.product_ref()
        ),
        instead,
    ))
}
