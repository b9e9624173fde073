//! The walk over the Substrait message itself, before the engine sees it.
//!
//! Every part of the message is matched against a closed list; a field that a producer of this
//! profile does not write must be empty. Depth is bounded by the decoder (100 messages), size by
//! [`FragmentLimits`].

use super::{FragmentLimits, ProfileError, reads};
use crate::functions;
use datafusion_substrait::substrait::proto;
use datafusion_substrait::variation_const::NULL_TYPE_NAME;
use guildhall_model::ProductRef;
use prost::Message;
use proto::expression::field_reference::{ReferenceType, RootType};
use proto::expression::literal::interval_day_to_second::PrecisionMode;
use proto::expression::literal::{IntervalDayToSecond, IntervalYearToMonth, LiteralType};
use proto::expression::reference_segment::ReferenceType as Segment;
use proto::expression::subquery::SubqueryType;
use proto::expression::{FieldReference, Literal, RexType};
use proto::extensions::simple_extension_declaration::MappingType;
use proto::function_argument::ArgType;
use proto::read_rel::ReadType;
use proto::rel::RelType;
use proto::rel_common::EmitKind;
use proto::sort_field::SortKind;
use proto::r#type::Kind;
use proto::{
    Expression, FunctionArgument, Plan, ReadRel, Rel, RelCommon, SortField, Type, aggregate_rel,
    fetch_rel, join_rel, plan_rel, set_rel,
};
use std::collections::{BTreeSet, HashSet};

/// Operators and built-in predicates, by their Substrait names. `xor` and `between` are left out:
/// the consumer copies their operands, and nested copies grow without bound.
const OPERATORS: &[&str] = &[
    "equal",
    "not_equal",
    "lt",
    "lte",
    "gt",
    "gte",
    "add",
    "subtract",
    "multiply",
    "divide",
    "modulus",
    "and",
    "or",
    "is_distinct_from",
    "is_not_distinct_from",
    "regex_match",
    "regex_imatch",
    "regex_not_match",
    "regex_not_imatch",
    "bitwise_and",
    "bitwise_or",
    "bitwise_xor",
    "bitwise_shift_right",
    "bitwise_shift_left",
    "str_concat",
    "not",
    "like",
    "ilike",
    "is_null",
    "is_not_null",
    "is_true",
    "is_false",
    "is_unknown",
    "is_not_true",
    "is_not_false",
    "is_not_unknown",
    "negate",
];

/// Listed functions that Substrait calls otherwise.
const RENAMED: &[&str] = &["logb", "is_nan"];

/// The message in `bytes`, if they are few enough.
pub(super) fn parse(bytes: &[u8], limits: &FragmentLimits) -> Result<Plan, ProfileError> {
    if bytes.len() > limits.max_bytes {
        return Err(ProfileError::TooLarge {
            bytes: bytes.len(),
            limit: limits.max_bytes,
        });
    }
    Plan::decode(bytes).map_err(|_| ProfileError::Malformed)
}

/// Checks every part of `plan`; the products that it reads.
pub(super) fn check(
    plan: &Plan,
    limits: &FragmentLimits,
) -> Result<BTreeSet<ProductRef>, ProfileError> {
    let mut walk = Walk {
        limits,
        nodes: 0,
        list_values: 0,
        rows: 0,
        functions: HashSet::new(),
        null_types: HashSet::new(),
        products: BTreeSet::new(),
    };
    walk.plan(plan)?;
    Ok(walk.products)
}

type Checked = Result<(), ProfileError>;

struct Walk<'a> {
    limits: &'a FragmentLimits,
    nodes: usize,
    list_values: usize,
    rows: usize,
    functions: HashSet<u32>,
    null_types: HashSet<u32>,
    products: BTreeSet<ProductRef>,
}

fn refuse<T>(what: &str) -> Result<T, ProfileError> {
    Err(ProfileError::not_in_profile(what))
}

fn need<T>(part: Option<&T>) -> Result<&T, ProfileError> {
    part.ok_or(ProfileError::Malformed)
}

fn absent<T>(part: Option<&T>, what: &str) -> Checked {
    match part {
        None => Ok(()),
        Some(_) => refuse(what),
    }
}

impl Walk<'_> {
    fn count(&mut self, n: usize) -> Checked {
        self.nodes = self.nodes.saturating_add(n);
        if self.nodes > self.limits.max_nodes {
            return Err(ProfileError::TooMany {
                what: "parts",
                limit: self.limits.max_nodes,
            });
        }
        Ok(())
    }

    fn plan(&mut self, plan: &Plan) -> Checked {
        absent(plan.advanced_extensions.as_ref(), "an advanced extension")?;
        if !plan.parameter_bindings.is_empty() {
            return refuse("a parameter");
        }
        if !plan.type_aliases.is_empty() || !plan.expected_type_urls.is_empty() {
            return refuse("a type of its own");
        }
        self.count(plan.extensions.len())?;
        for extension in &plan.extensions {
            self.extension(need(extension.mapping_type.as_ref())?)?;
        }
        let [relation] = plan.relations.as_slice() else {
            return refuse("more or fewer than one relation");
        };
        match need(relation.rel_type.as_ref())? {
            plan_rel::RelType::Root(root) => {
                self.count(root.names.len())?;
                self.rel(need(root.input.as_ref())?)
            }
            plan_rel::RelType::Rel(_) => refuse("a relation that is not a root"),
        }
    }

    fn extension(&mut self, mapping: &MappingType) -> Checked {
        match mapping {
            MappingType::ExtensionFunction(f) => {
                let name = f.name.split(':').next().unwrap_or_default();
                let listed = OPERATORS.contains(&name)
                    || RENAMED.contains(&name)
                    || functions::is_known(name);
                if !listed {
                    return Err(functions::FunctionError::NotOffered {
                        name: name.chars().take(64).collect(),
                    }
                    .into());
                }
                self.functions.insert(f.function_anchor);
                Ok(())
            }
            MappingType::ExtensionType(t) if t.name == NULL_TYPE_NAME => {
                self.null_types.insert(t.type_anchor);
                Ok(())
            }
            MappingType::ExtensionType(_) => refuse("a type of its own"),
            MappingType::ExtensionTypeVariation(_) => refuse("a type variation"),
        }
    }

    fn rel(&mut self, rel: &Rel) -> Checked {
        self.count(1)?;
        match need(rel.rel_type.as_ref())? {
            RelType::Read(r) => {
                plain(r.common.as_ref())?;
                absent(r.advanced_extension.as_ref(), "an advanced extension")?;
                self.read(r)
            }
            RelType::Filter(r) => {
                plain(r.common.as_ref())?;
                absent(r.advanced_extension.as_ref(), "an advanced extension")?;
                self.expression(need(r.condition.as_deref())?)?;
                self.rel(need(r.input.as_deref())?)
            }
            RelType::Fetch(r) => {
                plain(r.common.as_ref())?;
                absent(r.advanced_extension.as_ref(), "an advanced extension")?;
                match &r.offset_mode {
                    None => {}
                    Some(fetch_rel::OffsetMode::OffsetExpr(e)) => whole_number(e)?,
                    Some(_) => return refuse("a bare offset"),
                }
                match &r.count_mode {
                    None => {}
                    Some(fetch_rel::CountMode::CountExpr(e)) => whole_number(e)?,
                    Some(_) => return refuse("a bare limit"),
                }
                self.rel(need(r.input.as_deref())?)
            }
            RelType::Aggregate(r) => {
                plain(r.common.as_ref())?;
                absent(r.advanced_extension.as_ref(), "an advanced extension")?;
                self.aggregate(r)?;
                self.rel(need(r.input.as_deref())?)
            }
            RelType::Sort(r) => {
                plain(r.common.as_ref())?;
                absent(r.advanced_extension.as_ref(), "an advanced extension")?;
                self.sorts(&r.sorts)?;
                self.rel(need(r.input.as_deref())?)
            }
            RelType::Join(r) => {
                plain(r.common.as_ref())?;
                absent(r.advanced_extension.as_ref(), "an advanced extension")?;
                absent(r.post_join_filter.as_ref(), "a filter after a join")?;
                join_type(r.r#type)?;
                if let Some(e) = &r.expression {
                    self.expression(e)?;
                }
                self.rel(need(r.left.as_deref())?)?;
                self.rel(need(r.right.as_deref())?)
            }
            RelType::Project(r) => {
                absent(r.advanced_extension.as_ref(), "an advanced extension")?;
                if let Some(common) = &r.common {
                    absent(common.hint.as_ref(), "a hint")?;
                    absent(common.advanced_extension.as_ref(), "an advanced extension")?;
                    if let Some(EmitKind::Emit(emit)) = &common.emit_kind {
                        self.count(emit.output_mapping.len())?;
                    }
                }
                self.expressions(&r.expressions)?;
                self.rel(need(r.input.as_deref())?)
            }
            RelType::Set(r) => {
                plain(r.common.as_ref())?;
                absent(r.advanced_extension.as_ref(), "an advanced extension")?;
                if r.op != i32::from(set_rel::SetOp::UnionAll) || r.inputs.len() < 2 {
                    return refuse("a set operation other than UNION ALL");
                }
                r.inputs.iter().try_for_each(|input| self.rel(input))
            }
            RelType::ExtensionSingle(_)
            | RelType::ExtensionMulti(_)
            | RelType::ExtensionLeaf(_) => refuse("an extension relation"),
            RelType::Cross(_) => refuse("a cross relation"),
            RelType::Reference(_) => refuse("a reference to another relation"),
            RelType::Write(_) => refuse("a write"),
            RelType::Ddl(_) => refuse("a change of schema"),
            RelType::Update(_) => refuse("an update"),
            RelType::HashJoin(_) | RelType::MergeJoin(_) | RelType::NestedLoopJoin(_) => {
                refuse("a physical join")
            }
            RelType::Window(_) => refuse("a window relation"),
            RelType::Exchange(_) => refuse("an exchange"),
            RelType::Expand(_) => refuse("an expand relation"),
        }
    }

    fn read(&mut self, read: &ReadRel) -> Checked {
        let schema = need(read.base_schema.as_ref())?;
        let fields = &need(schema.r#struct.as_ref())?.types;
        if fields.len() != schema.names.len() {
            return Err(ProfileError::Malformed);
        }
        fields.iter().try_for_each(|t| self.column_type(t))?;
        absent(read.best_effort_filter.as_ref(), "a best-effort filter")?;
        match need(read.read_type.as_ref())? {
            ReadType::NamedTable(table) => {
                absent(table.advanced_extension.as_ref(), "an advanced extension")?;
                let [council, department, product] = table.names.as_slice() else {
                    return Err(ProfileError::NotAProduct);
                };
                self.products
                    .insert(reads::named(council, department, product)?);
                if let Some(filter) = &read.filter {
                    self.expression(filter)?;
                }
                self.mask(read, fields.len())
            }
            ReadType::VirtualTable(table) => {
                absent(read.filter.as_ref(), "a filter on a literal table")?;
                absent(read.projection.as_ref(), "a projection of a literal table")?;
                #[expect(deprecated, reason = "to see that the deprecated field is empty")]
                let old = &table.values;
                if !old.is_empty() {
                    return refuse("a literal table in the old form");
                }
                self.rows = self.rows.saturating_add(table.expressions.len());
                if self.rows > self.limits.max_literal_rows {
                    return Err(ProfileError::TooMany {
                        what: "rows of literal tables",
                        limit: self.limits.max_literal_rows,
                    });
                }
                for row in &table.expressions {
                    if row.fields.len() != fields.len() {
                        return Err(ProfileError::Malformed);
                    }
                    self.expressions(&row.fields)?;
                }
                Ok(())
            }
            ReadType::LocalFiles(_) => refuse("a read of files"),
            ReadType::ExtensionTable(_) => refuse("an extension table"),
            ReadType::IcebergTable(_) => refuse("a read of a table's files"),
        }
    }

    fn mask(&mut self, read: &ReadRel, width: usize) -> Checked {
        let Some(mask) = &read.projection else {
            return Ok(());
        };
        let items = &need(mask.select.as_ref())?.struct_items;
        self.count(items.len())?;
        let mut seen = HashSet::new();
        for item in items {
            absent(item.child.as_ref(), "a part of a column")?;
            let within = usize::try_from(item.field).is_ok_and(|i| i < width);
            if !within || !seen.insert(item.field) {
                return Err(ProfileError::Malformed);
            }
        }
        Ok(())
    }

    fn aggregate(&mut self, r: &proto::AggregateRel) -> Checked {
        self.expressions(&r.grouping_expressions)?;
        for grouping in &r.groupings {
            self.grouping(grouping, r.grouping_expressions.len())?;
        }
        for measure in &r.measures {
            if let Some(filter) = &measure.filter {
                self.expression(filter)?;
            }
            let f = need(measure.measure.as_ref())?;
            #[expect(deprecated, reason = "to see that the deprecated field is empty")]
            let old = &f.args;
            if !f.options.is_empty() || !old.is_empty() || f.phase != 0 {
                return refuse("an option or phase of an aggregate");
            }
            self.call(f.function_reference, &f.arguments)?;
            self.sorts(&f.sorts)?;
        }
        Ok(())
    }

    fn grouping(&mut self, grouping: &aggregate_rel::Grouping, width: usize) -> Checked {
        #[expect(deprecated, reason = "the producer still writes both forms")]
        self.expressions(&grouping.grouping_expressions)?;
        self.count(grouping.expression_references.len().saturating_add(1))?;
        let within = |i: &u32| usize::try_from(*i).is_ok_and(|i| i < width);
        if grouping.expression_references.iter().all(within) {
            Ok(())
        } else {
            Err(ProfileError::Malformed)
        }
    }

    fn sorts(&mut self, sorts: &[SortField]) -> Checked {
        for sort in sorts {
            match need(sort.sort_kind.as_ref())? {
                SortKind::Direction(1..=4) => {}
                SortKind::Direction(_) => return refuse("an unknown sort direction"),
                SortKind::ComparisonFunctionReference(_) => {
                    return refuse("a sort by a function of its own");
                }
            }
            self.expression(need(sort.expr.as_ref())?)?;
        }
        Ok(())
    }

    fn expressions(&mut self, all: &[Expression]) -> Checked {
        all.iter().try_for_each(|e| self.expression(e))
    }

    fn expression(&mut self, e: &Expression) -> Checked {
        self.count(1)?;
        match need(e.rex_type.as_ref())? {
            RexType::Literal(l) => self.literal(l),
            RexType::Selection(field) => field_reference(field),
            RexType::ScalarFunction(f) => {
                #[expect(deprecated, reason = "to see that the deprecated field is empty")]
                let old = &f.args;
                if !f.options.is_empty() || !old.is_empty() {
                    return refuse("an option of a function");
                }
                self.call(f.function_reference, &f.arguments)
            }
            RexType::WindowFunction(f) => {
                #[expect(deprecated, reason = "to see that the deprecated field is empty")]
                let old = &f.args;
                if !f.options.is_empty() || !old.is_empty() || f.phase != 0 || f.invocation != 0 {
                    return refuse("an option, phase or DISTINCT of a window function");
                }
                self.call(f.function_reference, &f.arguments)?;
                self.expressions(&f.partitions)?;
                self.sorts(&f.sorts)
            }
            RexType::IfThen(e) => {
                for (i, clause) in e.ifs.iter().enumerate() {
                    self.expression(need(clause.r#if.as_ref())?)?;
                    match &clause.then {
                        Some(then) => self.expression(then)?,
                        // The first clause without a result is the operand of `CASE x WHEN`.
                        None if i == 0 && e.ifs.len() > 1 => {}
                        None => return Err(ProfileError::Malformed),
                    }
                }
                e.r#else.as_deref().map_or(Ok(()), |e| self.expression(e))
            }
            RexType::SingularOrList(list) => {
                self.expression(need(list.value.as_deref())?)?;
                list.options.iter().try_for_each(|e| self.list_value(e))
            }
            RexType::Cast(cast) => {
                self.flat_type(need(cast.r#type.as_ref())?)?;
                self.expression(need(cast.input.as_deref())?)
            }
            RexType::Subquery(query) => match need(query.subquery_type.as_ref())? {
                SubqueryType::Scalar(q) => self.rel(need(q.input.as_deref())?),
                SubqueryType::InPredicate(q) => {
                    self.expressions(&q.needles)?;
                    self.rel(need(q.haystack.as_deref())?)
                }
                SubqueryType::SetPredicate(q) => self.rel(need(q.tuples.as_deref())?),
                SubqueryType::SetComparison(_) => refuse("ANY and ALL"),
            },
            RexType::SwitchExpression(_) => refuse("a switch"),
            RexType::MultiOrList(_) => refuse("a list of tuples"),
            RexType::Nested(_) => refuse("a nested value"),
            RexType::DynamicParameter(_) => refuse("a parameter"),
            RexType::Lambda(_) | RexType::LambdaInvocation(_) => refuse("a lambda"),
            #[expect(deprecated, reason = "the match is to name every variant")]
            RexType::Enum(_) => refuse("an enumeration"),
        }
    }

    /// One value of an `IN` list: literals have an allowance of their own, for the keys of a
    /// semi-join.
    fn list_value(&mut self, e: &Expression) -> Checked {
        let Some(RexType::Literal(l)) = &e.rex_type else {
            return self.expression(e);
        };
        self.list_values = self.list_values.saturating_add(1);
        if self.list_values > self.limits.max_list_values {
            return Err(ProfileError::TooMany {
                what: "values in lists",
                limit: self.limits.max_list_values,
            });
        }
        self.literal(l)
    }

    fn call(&mut self, reference: u32, arguments: &[FunctionArgument]) -> Checked {
        if !self.functions.contains(&reference) {
            return Err(ProfileError::Malformed);
        }
        for argument in arguments {
            match need(argument.arg_type.as_ref())? {
                ArgType::Value(e) => self.expression(e)?,
                ArgType::Enum(_) | ArgType::Type(_) => {
                    return refuse("a function argument that is not a value");
                }
            }
        }
        Ok(())
    }

    fn literal(&mut self, l: &Literal) -> Checked {
        match need(l.literal_type.as_ref())? {
            LiteralType::Boolean(_)
            | LiteralType::I8(_)
            | LiteralType::I16(_)
            | LiteralType::I32(_)
            | LiteralType::I64(_)
            | LiteralType::Fp32(_)
            | LiteralType::Fp64(_)
            | LiteralType::String(_)
            | LiteralType::Binary(_)
            | LiteralType::Date(_)
            | LiteralType::PrecisionTime(_)
            | LiteralType::PrecisionTimestamp(_)
            | LiteralType::PrecisionTimestampTz(_) => Ok(()),
            LiteralType::Decimal(d) => {
                if d.value.len() == 16 {
                    decimal(d.precision, d.scale)
                } else {
                    Err(ProfileError::Malformed)
                }
            }
            LiteralType::IntervalYearToMonth(i) => months(i),
            LiteralType::IntervalDayToSecond(i) => seconds(i, 3),
            LiteralType::IntervalCompound(i) => {
                months(need(i.interval_year_to_month.as_ref())?)?;
                seconds(need(i.interval_day_to_second.as_ref())?, 9)
            }
            LiteralType::Null(t) => self.flat_type(t),
            LiteralType::FixedChar(_)
            | LiteralType::VarChar(_)
            | LiteralType::FixedBinary(_)
            | LiteralType::Uuid(_) => refuse("a literal of a fixed-size type"),
            #[expect(deprecated, reason = "the match is to name every variant")]
            LiteralType::Timestamp(_) | LiteralType::Time(_) | LiteralType::TimestampTz(_) => {
                refuse("a time in the old form")
            }
            LiteralType::Struct(_)
            | LiteralType::Map(_)
            | LiteralType::List(_)
            | LiteralType::EmptyList(_)
            | LiteralType::EmptyMap(_) => refuse("a nested literal"),
            LiteralType::UserDefined(_) => refuse("a literal of a type of its own"),
        }
    }

    fn column_type(&mut self, t: &Type) -> Checked {
        match need(t.kind.as_ref())? {
            Kind::List(list) => {
                self.count(1)?;
                self.flat_type(need(list.r#type.as_deref())?)
            }
            _ => self.flat_type(t),
        }
    }

    fn flat_type(&mut self, t: &Type) -> Checked {
        self.count(1)?;
        match need(t.kind.as_ref())? {
            Kind::Bool(_)
            | Kind::I8(_)
            | Kind::I16(_)
            | Kind::I32(_)
            | Kind::I64(_)
            | Kind::Fp32(_)
            | Kind::Fp64(_)
            | Kind::String(_)
            | Kind::Binary(_)
            | Kind::Date(_)
            | Kind::IntervalYear(_)
            | Kind::IntervalDay(_)
            | Kind::IntervalCompound(_)
            | Kind::PrecisionTime(_)
            | Kind::PrecisionTimestamp(_)
            | Kind::PrecisionTimestampTz(_) => Ok(()),
            Kind::Decimal(d) => decimal(d.precision, d.scale),
            Kind::UserDefined(u) if self.null_types.contains(&u.type_reference) => Ok(()),
            Kind::UserDefined(_) | Kind::Alias(_) => refuse("a type of its own"),
            Kind::List(_) | Kind::Struct(_) | Kind::Map(_) | Kind::Func(_) => {
                refuse("a nested type")
            }
            Kind::FixedChar(_) | Kind::Varchar(_) | Kind::FixedBinary(_) | Kind::Uuid(_) => {
                refuse("a fixed-size type")
            }
            #[expect(deprecated, reason = "the match is to name every variant")]
            Kind::Timestamp(_)
            | Kind::Time(_)
            | Kind::TimestampTz(_)
            | Kind::UserDefinedTypeReference(_) => refuse("a type in the old form"),
        }
    }
}

/// A relation without hints or an output mapping of its own.
fn plain(common: Option<&RelCommon>) -> Checked {
    let Some(common) = common else {
        return Ok(());
    };
    absent(common.hint.as_ref(), "a hint")?;
    absent(common.advanced_extension.as_ref(), "an advanced extension")?;
    match &common.emit_kind {
        None | Some(EmitKind::Direct(_)) => Ok(()),
        Some(EmitKind::Emit(_)) => refuse("an output mapping of a relation that is no projection"),
    }
}

fn join_type(t: i32) -> Checked {
    use join_rel::JoinType;
    match JoinType::try_from(t) {
        Ok(
            JoinType::Inner
            | JoinType::Outer
            | JoinType::Left
            | JoinType::Right
            | JoinType::LeftSemi
            | JoinType::RightSemi
            | JoinType::LeftAnti
            | JoinType::RightAnti
            | JoinType::LeftMark
            | JoinType::RightMark,
        ) => Ok(()),
        Ok(JoinType::Unspecified | JoinType::LeftSingle | JoinType::RightSingle) | Err(_) => {
            refuse("a join of another kind")
        }
    }
}

fn whole_number(e: &Expression) -> Checked {
    match &e.rex_type {
        Some(RexType::Literal(Literal {
            literal_type: Some(LiteralType::I64(n)),
            ..
        })) if *n >= 0 => Ok(()),
        _ => refuse("a limit that is not a whole number"),
    }
}

fn field_reference(field: &FieldReference) -> Checked {
    match &field.root_type {
        None | Some(RootType::RootReference(_)) => {}
        Some(RootType::Expression(_)) => return refuse("a part of an expression"),
        Some(RootType::OuterReference(_)) => return refuse("a correlated column"),
        Some(RootType::LambdaParameterReference(_)) => return refuse("a lambda"),
    }
    match need(field.reference_type.as_ref())? {
        ReferenceType::DirectReference(segment) => match need(segment.reference_type.as_ref())? {
            Segment::StructField(f) if f.child.is_none() && f.field >= 0 => Ok(()),
            Segment::StructField(_) | Segment::MapKey(_) | Segment::ListElement(_) => {
                refuse("a part of a column")
            }
        },
        ReferenceType::MaskedReference(_) => refuse("a masked reference"),
    }
}

fn decimal(precision: i32, scale: i32) -> Checked {
    if (1..=38).contains(&precision) && (0..=precision).contains(&scale) {
        Ok(())
    } else {
        refuse("a decimal of more than 38 digits")
    }
}

/// Bounds within which the engine's own arithmetic cannot overflow.
fn months(i: &IntervalYearToMonth) -> Checked {
    if i.years.unsigned_abs() <= 100_000 && i.months.unsigned_abs() <= 1_200_000 {
        Ok(())
    } else {
        refuse("an interval of more than 100,000 years")
    }
}

fn seconds(i: &IntervalDayToSecond, digits: i32) -> Checked {
    let (fraction, most) = match digits {
        3 => (1_000, 2_000_000),
        _ => (1_000_000_000, i32::MAX.unsigned_abs()),
    };
    let within = matches!(i.precision_mode, Some(PrecisionMode::Precision(p)) if p == digits)
        && i.subseconds.unsigned_abs() < fraction
        && i.seconds.unsigned_abs() <= most;
    if within {
        Ok(())
    } else {
        refuse("an interval of an unusual size or precision")
    }
}
