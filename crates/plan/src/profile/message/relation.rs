//! Relations.

use super::{Checked, Walk, absent, need, refuse};
use crate::profile::{ProfileError, reads};
use datafusion_substrait::substrait::proto;
use proto::expression::literal::LiteralType;
use proto::expression::{Literal, RexType};
use proto::read_rel::ReadType;
use proto::rel::RelType;
use proto::rel_common::EmitKind;
use proto::{Expression, ReadRel, Rel, RelCommon, aggregate_rel, fetch_rel, join_rel, set_rel};
use std::collections::HashSet;

impl Walk<'_> {
    pub(super) fn rel(&mut self, rel: &Rel) -> Checked {
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

    pub(super) fn read(&mut self, read: &ReadRel) -> Checked {
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

    pub(super) fn mask(&mut self, read: &ReadRel, width: usize) -> Checked {
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

    pub(super) fn aggregate(&mut self, r: &proto::AggregateRel) -> Checked {
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

    pub(super) fn grouping(&mut self, grouping: &aggregate_rel::Grouping, width: usize) -> Checked {
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
