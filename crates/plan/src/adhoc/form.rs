//! The bytes of a free question: the walk over a closed list that admits it is the walk that writes it down.
//!
//! Noise is drawn from these bytes, so two questions that differ must never have the same: one could be taken from
//! the other, noise and all. Every part is a tag and parts of stated length, and a literal is written by its type and
//! its own bytes, never by how it prints.

use crate::cube::{CubeAgg, CubeQuery, Refusal};
use crate::functions::check_scalar;
use arrow::row::{RowConverter, SortField};
use datafusion::common::ScalarValue;
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::{Expr, Volatility};
use guildhall_grant::product::Product;
use guildhall_model::ColumnClass;

/// The bytes of the question of `cells` over the rows that meet `predicates`, or why one of these may not be asked.
///
/// The order of predicates does not count, nor do the names of the answer's columns.
pub(super) fn of(
    cells: &CubeQuery,
    predicates: &[Expr],
    product: &Product,
) -> Result<Vec<u8>, Refusal> {
    let mut form = Form(b"guildhall ad hoc question 1".to_vec());
    form.text(&cells.product.to_string());
    form.text(cells.unit.as_str());
    form.number(cells.keys.len());
    for key in &cells.keys {
        form.text(key.column.as_str());
        form.text(&format!("{:?}", key.data_type));
    }
    form.number(cells.aggregates.len());
    for told in &cells.aggregates {
        let (kind, measure) = match &told.aggregate {
            CubeAgg::CountRows => ("rows", None),
            CubeAgg::CountUnits => ("units", None),
            CubeAgg::CountMeasure(c) => ("values", Some(c)),
            CubeAgg::Sum(c) => ("sum", Some(c)),
            CubeAgg::Avg(c) => ("avg", Some(c)),
        };
        form.text(kind);
        form.text(measure.map_or("", |c| c.as_str()));
        form.text(&format!("{:?}", (&told.argument, &told.data_type)));
    }
    let written = predicates.iter().map(|e| {
        let mut form = Form(Vec::new());
        form.expression(e, product)?;
        Ok(form.0)
    });
    let mut written = written.collect::<Result<Vec<_>, Refusal>>()?;
    written.sort();
    form.number(written.len());
    for predicate in written {
        form.bytes(&predicate);
    }
    Ok(form.0)
}

struct Form(Vec<u8>);

impl Form {
    fn number(&mut self, n: usize) {
        self.0.extend_from_slice(&(n as u64).to_le_bytes());
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.number(bytes.len());
        self.0.extend_from_slice(bytes);
    }

    fn text(&mut self, text: &str) {
        self.bytes(text.as_bytes());
    }

    /// A tag, and the expressions under it.
    fn node<'a>(
        &mut self,
        tag: &str,
        under: impl IntoIterator<Item = &'a Expr>,
        product: &Product,
    ) -> Result<(), Refusal> {
        let under: Vec<&Expr> = under.into_iter().collect();
        self.text(tag);
        self.number(under.len());
        under
            .into_iter()
            .try_for_each(|e| self.expression(e, product))
    }

    fn expression(&mut self, e: &Expr, product: &Product) -> Result<(), Refusal> {
        let flag = |name: &str, set: bool| format!("{name} {set}");
        match e {
            Expr::Column(c) => {
                check_column(&c.name, product)?;
                self.text("column");
                self.text(&c.name);
                Ok(())
            }
            Expr::Literal(value, _) => self.literal(value),
            Expr::BinaryExpr(b) => {
                let tag = format!("operator {:?}", b.op);
                self.node(&tag, [b.left.as_ref(), b.right.as_ref()], product)
            }
            Expr::Not(e) => self.node("not", [e.as_ref()], product),
            Expr::IsNotNull(e) => self.node("is not null", [e.as_ref()], product),
            Expr::IsNull(e) => self.node("is null", [e.as_ref()], product),
            Expr::IsTrue(e) => self.node("is true", [e.as_ref()], product),
            Expr::IsFalse(e) => self.node("is false", [e.as_ref()], product),
            Expr::IsUnknown(e) => self.node("is unknown", [e.as_ref()], product),
            Expr::IsNotTrue(e) => self.node("is not true", [e.as_ref()], product),
            Expr::IsNotFalse(e) => self.node("is not false", [e.as_ref()], product),
            Expr::IsNotUnknown(e) => self.node("is not unknown", [e.as_ref()], product),
            Expr::Negative(e) => self.node("negative", [e.as_ref()], product),
            Expr::Like(l) => {
                let how = (l.negated, l.case_insensitive, l.escape_char);
                let tag = format!("like {how:?}");
                self.node(&tag, [l.expr.as_ref(), l.pattern.as_ref()], product)
            }
            Expr::Between(b) => {
                let parts = [b.expr.as_ref(), b.low.as_ref(), b.high.as_ref()];
                self.node(&flag("between", b.negated), parts, product)
            }
            Expr::InList(l) => {
                let parts = std::iter::once(l.expr.as_ref()).chain(&l.list);
                self.node(&flag("in", l.negated), parts, product)
            }
            Expr::Case(c) => {
                let how = (c.expr.is_some(), c.else_expr.is_some());
                let whens = c.when_then_expr.iter();
                let whens = whens.flat_map(|(w, t)| [w.as_ref(), t.as_ref()]);
                let parts = c.expr.iter().map(AsRef::as_ref).chain(whens);
                let parts = parts.chain(c.else_expr.iter().map(AsRef::as_ref));
                self.node(&format!("case {how:?}"), parts, product)
            }
            Expr::Cast(c) => {
                let tag = format!("cast {:?}", c.field.data_type());
                self.node(&tag, [c.expr.as_ref()], product)
            }
            Expr::TryCast(c) => {
                let tag = format!("try cast {:?}", c.field.data_type());
                self.node(&tag, [c.expr.as_ref()], product)
            }
            Expr::ScalarFunction(f) => {
                check_function(f)?;
                self.node(&format!("function {}", f.name()), &f.args, product)
            }
            Expr::Exists(_)
            | Expr::InSubquery(_)
            | Expr::ScalarSubquery(_)
            | Expr::SetComparison(_)
            | Expr::OuterReferenceColumn(_, _) => Err(Refusal::new(
                "adhoc.subquery",
                "a sub-query in a filter on private rows",
                "write what it gives as literals",
            )),
            _ => Err(Refusal::new(
                "adhoc.expression",
                "an expression that may not be in a filter on private rows",
                "use comparisons, arithmetic, CASE, LIKE, IN over values, casts and the listed functions",
            )),
        }
    }

    /// By its type and the bytes of its value: two that print alike may differ.
    fn literal(&mut self, value: &ScalarValue) -> Result<(), Refusal> {
        let data_type = value.data_type();
        let array = value.to_array_of_size(1).map_err(|_| unreadable())?;
        let rows = RowConverter::new(vec![SortField::new(data_type.clone())])
            .and_then(|converter| converter.convert_columns(&[array]))
            .map_err(|_| unreadable())?;
        self.text("literal");
        self.text(&format!("{data_type:?}"));
        let value = rows.iter().next();
        self.bytes(value.as_ref().map_or(&[], |row| row.as_ref()));
        Ok(())
    }
}

fn unreadable() -> Refusal {
    Refusal::new(
        "adhoc.literal",
        "a literal of a type that may not be in a filter on private rows",
        "use numbers, text, dates, times and booleans",
    )
}

fn check_column(name: &str, product: &Product) -> Result<(), Refusal> {
    match product.column(name).map(|c| c.class) {
        Some(ColumnClass::Open | ColumnClass::Quasi | ColumnClass::Measure) => Ok(()),
        Some(ColumnClass::Identifier) => Err(Refusal::new(
            "adhoc.identifier",
            format!("`{name}` names persons or things and is not filtered by"),
            "filter by columns that are not identifiers",
        )),
        // That a secret column exists is one as well.
        Some(ColumnClass::Secret) | None => Err(Refusal::new(
            "adhoc.column",
            "a filter by a column that may not be read",
            "see `information_schema.columns` for the product's columns",
        )),
    }
}

fn check_function(f: &ScalarFunction) -> Result<(), Refusal> {
    let refuse = |reason: String| {
        Err(Refusal::new(
            "adhoc.function",
            reason,
            "use listed functions whose value depends on nothing but their arguments",
        ))
    };
    if let Err(error) = check_scalar(&f.func, &f.args) {
        return refuse(error.to_string());
    }
    if f.func.signature().volatility != Volatility::Immutable {
        return refuse(format!(
            "`{}` does not give the same for the same arguments",
            f.name()
        ));
    }
    Ok(())
}
