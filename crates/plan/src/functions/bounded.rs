//! Functions whose text may be longer than what they are given, held to a length.
//!
//! A few calls within one another turn a thousand bytes into a billion, whether the optimiser
//! evaluates them or a batch of rows does, and no memory pool counts those bytes. So each of
//! these functions says how long its result may become before it makes it. Names, arguments and
//! results are the engine's own. `||` is planned as [`JOIN`], which is one of them.
//!
//! What this does not bound: how many columns one statement makes of a long text.

mod text;

use arrow::array::{Array, ArrayRef, BooleanArray};
use arrow::buffer::NullBuffer;
use arrow::compute::{concat, nullif};
use arrow::datatypes::DataType;
use datafusion::common::{DFSchema, DataFusionError, Result, ScalarValue};
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::planner::{ExprPlanner, PlannerResult, RawBinaryExpr};
use datafusion::logical_expr::{
    ColumnarValue, Documentation, Expr, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
};
use datafusion::sql::sqlparser::ast::BinaryOperator;
use std::hash::{Hash, Hasher};
use std::ops::Range;
use std::sync::Arc;
use text::Texts;

/// What `||` is planned as, by Substrait's name of it: NULL if any part is.
pub(super) const JOIN: &str = "str_concat";

/// The longest text made of literals alone: it is repeated for every row.
const MAX_CONSTANT: usize = 64 << 10;

/// The longest text made of a row.
const MAX_VALUE: usize = 1 << 20;

/// All texts of one batch.
const MAX_BATCH: usize = 64 << 20;

/// Steps of `levenshtein`, for one pair and for one batch: nothing can interrupt them.
const MAX_PAIR: usize = 4_000_000;
const MAX_PAIRS: usize = 1 << 28;

/// The longest that `to_char` makes of one byte of its format.
const TO_CHAR_GROWTH: usize = 64;

/// The functions on the list, with those that lengthen text held to a length.
pub(super) fn bounded(functions: Vec<Arc<ScalarUDF>>) -> Vec<Arc<ScalarUDF>> {
    let mut all = Vec::with_capacity(functions.len().saturating_add(1));
    for f in functions {
        let Some(growth) = Growth::of(f.name()) else {
            all.push(f);
            continue;
        };
        if growth == Growth::Concat {
            all.push(wrap(Growth::Join, &f));
        }
        all.push(wrap(growth, &f));
    }
    all
}

fn wrap(growth: Growth, f: &ScalarUDF) -> Arc<ScalarUDF> {
    Arc::new(ScalarUDF::new_from_impl(Bounded {
        growth,
        inner: Arc::clone(f.inner()),
    }))
}

/// How a function lengthens what it is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Growth {
    Concat,
    Join,
    ConcatWs,
    Replace,
    RegexpReplace,
    RegexpMatch,
    Overlay,
    ToChar,
    Levenshtein,
    /// Four times at most in one call, so that its result may be looked at.
    Little,
}

impl Growth {
    fn of(name: &str) -> Option<Self> {
        Some(match name {
            "concat" => Self::Concat,
            "concat_ws" => Self::ConcatWs,
            "replace" => Self::Replace,
            "regexp_replace" => Self::RegexpReplace,
            "regexp_match" => Self::RegexpMatch,
            "overlay" => Self::Overlay,
            "to_char" => Self::ToChar,
            "levenshtein" => Self::Levenshtein,
            "initcap" | "lower" | "translate" | "upper" => Self::Little,
            _ => return None,
        })
    }

    /// What one row comes to at most: bytes, or steps for `levenshtein`.
    fn bound(self, args: &[Texts<'_>], row: usize) -> usize {
        let len = |i: usize| args.get(i).map_or(0, |a| a.len(row));
        let sum = |args: &[Texts<'_>]| {
            args.iter()
                .fold(0_usize, |n, a| n.saturating_add(a.len(row)))
        };
        match self {
            Self::Concat | Self::Join => sum(args),
            Self::ConcatWs => {
                let between = len(0).saturating_mul(args.len().saturating_sub(2));
                sum(args.get(1..).unwrap_or_default()).saturating_add(between)
            }
            Self::Replace => {
                let most = replaced(len(0), len(1), len(2));
                match (most > MAX_CONSTANT, args) {
                    (true, [s, from, to]) => s.replaced(from, to, row).min(most),
                    _ => most,
                }
            }
            Self::RegexpReplace => {
                let (text, with) = (len(0), len(2));
                // What a match captured may be repeated; matches do not overlap.
                let captured = text.saturating_mul(args.get(2).map_or(0, |a| a.count(row, b"$\\")));
                let everywhere = args.get(3).is_some_and(|a| a.count(row, b"g") > 0);
                let matches = if everywhere {
                    text.saturating_add(1)
                } else {
                    1
                };
                text.saturating_add(with.saturating_mul(matches))
                    .saturating_add(captured)
            }
            Self::RegexpMatch => {
                let groups = args.get(1).map_or(0, |a| a.count(row, b"("));
                len(0).saturating_mul(groups.saturating_add(1))
            }
            // A negative length repeats a part of the text.
            Self::Overlay => len(0).saturating_mul(2).saturating_add(len(1)),
            Self::ToChar => len(1).saturating_mul(TO_CHAR_GROWTH),
            Self::Levenshtein => len(0).saturating_mul(len(1)),
            Self::Little => 0,
        }
    }
}

/// The length of a text in which as much as can be is replaced.
fn replaced(text: usize, from: usize, to: usize) -> usize {
    match text.checked_div(from) {
        Some(times) => text.saturating_add(times.saturating_mul(to.saturating_sub(from))),
        None => text.saturating_add(text.saturating_add(1).saturating_mul(to)),
    }
}

/// One of the engine's functions, held to a length.
#[derive(Debug)]
struct Bounded {
    growth: Growth,
    inner: Arc<dyn ScalarUDFImpl>,
}

impl PartialEq for Bounded {
    fn eq(&self, other: &Self) -> bool {
        self.name() == other.name()
    }
}

impl Eq for Bounded {}

impl Hash for Bounded {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name().hash(state);
    }
}

// The engine's own simplifications of `concat` and `concat_ws` are left out: they join literals
// without a bound, and put the unbounded function in place of this one.
impl ScalarUDFImpl for Bounded {
    fn name(&self) -> &str {
        match self.growth {
            Growth::Join => JOIN,
            _ => self.inner.name(),
        }
    }

    fn schema_name(&self, args: &[Expr]) -> Result<String> {
        if self.growth != Growth::Join {
            return self.inner.schema_name(args);
        }
        let parts: Vec<String> = args.iter().map(|a| a.schema_name().to_string()).collect();
        Ok(parts.join(" || "))
    }

    fn aliases(&self) -> &[String] {
        match self.growth {
            Growth::Join => &[],
            _ => self.inner.aliases(),
        }
    }

    fn signature(&self) -> &Signature {
        self.inner.signature()
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        self.inner.coerce_types(types)
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        self.inner.return_type(types)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let constant = args
            .args
            .iter()
            .all(|a| matches!(a, ColumnarValue::Scalar(_)));
        let rows = if constant { 1 } else { args.number_rows };
        match self.parts(&args, rows, constant)?.as_slice() {
            [] | [_] => self.invoke(args, constant),
            parts => self.in_parts(&args, parts),
        }
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.inner.documentation()
    }
}

impl Bounded {
    /// The rows in runs of which each surely keeps within the bound of a batch.
    fn parts(
        &self,
        args: &ScalarFunctionArgs,
        rows: usize,
        constant: bool,
    ) -> Result<Vec<Range<usize>>> {
        let texts: Vec<Texts<'_>> = args.args.iter().map(Texts::of).collect();
        let (most, all) = match (self.growth, constant) {
            (Growth::Levenshtein, _) => (MAX_PAIR, MAX_PAIRS),
            (_, true) => (MAX_CONSTANT, MAX_BATCH),
            (_, false) => (MAX_VALUE, MAX_BATCH),
        };
        let (mut parts, mut from, mut sum) = (Vec::new(), 0, 0_usize);
        for row in 0..rows {
            let bound = self.growth.bound(&texts, row);
            if bound > most {
                return Err(self.too_much());
            }
            sum = sum.saturating_add(bound);
            if sum > all {
                if self.growth == Growth::Levenshtein {
                    return Err(self.too_much());
                }
                parts.push(from..row);
                (from, sum) = (row, bound);
            }
        }
        parts.push(from..rows);
        Ok(parts)
    }

    fn in_parts(&self, args: &ScalarFunctionArgs, parts: &[Range<usize>]) -> Result<ColumnarValue> {
        let mut made: Vec<ArrayRef> = Vec::with_capacity(parts.len());
        let mut bytes = 0_usize;
        for part in parts {
            let mut some = args.clone();
            some.number_rows = part.len();
            for a in &mut some.args {
                if let ColumnarValue::Array(a) = a {
                    *a = a.slice(part.start, part.len());
                }
            }
            let array = self.invoke(some, false)?.into_array(part.len())?;
            bytes = bytes.saturating_add(array.to_data().get_slice_memory_size()?);
            if bytes > MAX_BATCH {
                return Err(self.too_much());
            }
            made.push(array);
        }
        let made: Vec<&dyn Array> = made.iter().map(AsRef::as_ref).collect();
        Ok(ColumnarValue::Array(concat(&made)?))
    }

    fn invoke(&self, args: ScalarFunctionArgs, constant: bool) -> Result<ColumnarValue> {
        match self.growth {
            Growth::Join => self.join(args),
            Growth::Little => {
                let rows = if constant { 1 } else { args.number_rows };
                let made = self.inner.invoke_with_args(args)?;
                let most = if constant { MAX_CONSTANT } else { MAX_VALUE };
                self.look_at(&made, rows, most)?;
                Ok(made)
            }
            _ => self.inner.invoke_with_args(args),
        }
    }

    fn look_at(&self, made: &ColumnarValue, rows: usize, most: usize) -> Result<()> {
        let texts = Texts::of(made);
        let mut sum = 0_usize;
        for row in 0..rows {
            let len = texts.len(row);
            sum = sum.saturating_add(len);
            if len > most || sum > MAX_BATCH {
                return Err(self.too_much());
            }
        }
        Ok(())
    }

    /// `concat` leaves NULLs out; `||` of a NULL is NULL.
    fn join(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let mut nulls: Option<NullBuffer> = None;
        for a in &args.args {
            match a {
                ColumnarValue::Scalar(s) if s.is_null() => {
                    let null = ScalarValue::try_from(args.return_field.data_type())?;
                    return Ok(ColumnarValue::Scalar(null));
                }
                ColumnarValue::Scalar(_) => {}
                ColumnarValue::Array(a) => {
                    nulls = NullBuffer::union(nulls.as_ref(), a.logical_nulls().as_ref());
                }
            }
        }
        match (self.inner.invoke_with_args(args)?, nulls) {
            (ColumnarValue::Array(joined), Some(nulls)) => {
                let null = BooleanArray::new(!nulls.inner(), None);
                Ok(ColumnarValue::Array(nullif(&joined, &null)?))
            }
            (joined, _) => Ok(joined),
        }
    }

    fn too_much(&self) -> DataFusionError {
        let what = match self.growth {
            Growth::Levenshtein => "is given texts that are too long to compare",
            _ => "would make a text of more than 1 MiB, or of more than 64 KiB from literals alone",
        };
        DataFusionError::ResourcesExhausted(format!("`{}` {what}", self.name()))
    }
}

/// Whether a call by this name is held to a length where it has to be: the engine's own parts
/// put the engine's own functions into plans.
pub(super) fn is_bounded(f: &ScalarUDF) -> bool {
    Growth::of(f.name()).is_none() || f.inner().is::<Bounded>()
}

/// Plans `||` as [`JOIN`], and `OVERLAY` as the function that is held to a length.
#[derive(Debug)]
pub(crate) struct TextPlanner {
    join: Arc<ScalarUDF>,
    overlay: Arc<ScalarUDF>,
}

impl TextPlanner {
    /// The planner, if both functions are among these.
    pub(crate) fn among(functions: &[Arc<ScalarUDF>]) -> Option<Self> {
        let named = |name: &str| functions.iter().find(|f| f.name() == name).cloned();
        Some(Self {
            join: named(JOIN)?,
            overlay: named("overlay")?,
        })
    }
}

impl ExprPlanner for TextPlanner {
    fn plan_binary_op(
        &self,
        expr: RawBinaryExpr,
        _schema: &DFSchema,
    ) -> Result<PlannerResult<RawBinaryExpr>> {
        if expr.op != BinaryOperator::StringConcat {
            return Ok(PlannerResult::Original(expr));
        }
        // A chain is one call, so that what comes before is not copied at every step.
        let mut args = match expr.left {
            Expr::ScalarFunction(f) if f.name() == JOIN => f.args,
            other => vec![other],
        };
        args.push(expr.right);
        let call = ScalarFunction::new_udf(Arc::clone(&self.join), args);
        Ok(PlannerResult::Planned(Expr::ScalarFunction(call)))
    }

    fn plan_overlay(&self, args: Vec<Expr>) -> Result<PlannerResult<Vec<Expr>>> {
        let call = ScalarFunction::new_udf(Arc::clone(&self.overlay), args);
        Ok(PlannerResult::Planned(Expr::ScalarFunction(call)))
    }
}

#[cfg(test)]
mod tests;
