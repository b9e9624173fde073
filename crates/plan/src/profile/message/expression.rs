//! Expressions.

use super::{Checked, Walk, need, refuse};
use crate::profile::ProfileError;
use datafusion_substrait::substrait::proto;
use proto::expression::field_reference::{ReferenceType, RootType};
use proto::expression::reference_segment::ReferenceType as Segment;
use proto::expression::subquery::SubqueryType;
use proto::expression::{FieldReference, RexType};
use proto::function_argument::ArgType;
use proto::sort_field::SortKind;
use proto::{Expression, FunctionArgument, SortField};

impl Walk<'_> {
    pub(super) fn sorts(&mut self, sorts: &[SortField]) -> Checked {
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

    pub(super) fn expressions(&mut self, all: &[Expression]) -> Checked {
        all.iter().try_for_each(|e| self.expression(e))
    }

    pub(super) fn expression(&mut self, e: &Expression) -> Checked {
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
    pub(super) fn list_value(&mut self, e: &Expression) -> Checked {
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

    pub(super) fn call(&mut self, reference: u32, arguments: &[FunctionArgument]) -> Checked {
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
