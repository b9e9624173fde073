//! Products on the wire.

use super::{
    Budget, BudgetPeriod, Column, DatasetColumn, Dimension, Linkable, Measure, NanoRho, Product,
    RollUp, RollUpKind,
};
use crate::envelope::Statement;
use crate::wire::{self, WireError};
use guildhall_model::{ColumnClass, ReleaseClass};
use guildhall_proto::product::v1 as proto;
use std::collections::BTreeSet;

impl Statement for Product {
    const PAYLOAD_TYPE: &'static str = "application/vnd.guildhall.product.v1";
    type Wire = proto::Product;

    fn to_wire(&self) -> proto::Product {
        proto::Product {
            council: self.council.to_string(),
            department: self.department.to_string(),
            name: self.name.to_string(),
            version: self.version,
            doc: self.doc.clone(),
            release_class: release_to_wire(self.class).into(),
            purposes: self.purposes.iter().map(ToString::to_string).collect(),
            conforms_to: text(self.conforms_to.as_ref()),
            unit: text(self.unit.as_ref()),
            minimum_group: self.minimum_group,
            max_rows_per_unit: self.max_rows_per_unit,
            columns: self.columns.iter().map(column_to_wire).collect(),
            dimensions: self.dimensions.iter().map(dimension_to_wire).collect(),
            measures: self.measures.iter().map(measure_to_wire).collect(),
            arrow_schema: self.arrow_schema.clone(),
            definition_digest: self.definition.as_bytes().to_vec(),
            row_count: self.row_count,
            always_reads: reads_to_wire(&self.always_reads),
            node: self.node.to_string(),
            budgets: self.budgets.iter().map(budget_to_wire).collect(),
            joint_with: self.joint_with.iter().map(ToString::to_string).collect(),
            linkable: self.linkable.as_ref().map(linkable_to_wire),
        }
    }

    fn from_wire(w: proto::Product) -> Result<Self, WireError> {
        let product = Self {
            council: wire::name("council", &w.council)?,
            department: wire::name("department", &w.department)?,
            name: wire::name("name", &w.name)?,
            version: w.version,
            doc: w.doc,
            class: release_from_wire(w.release_class)?,
            purposes: wire::names("purposes", &w.purposes)?,
            conforms_to: wire::optional_name("conforms_to", &w.conforms_to)?,
            unit: wire::optional_name("unit", &w.unit)?,
            minimum_group: w.minimum_group,
            max_rows_per_unit: w.max_rows_per_unit,
            columns: w
                .columns
                .into_iter()
                .map(column_from_wire)
                .collect::<Result<_, _>>()?,
            dimensions: w
                .dimensions
                .into_iter()
                .map(dimension_from_wire)
                .collect::<Result<_, _>>()?,
            measures: w
                .measures
                .iter()
                .map(measure_from_wire)
                .collect::<Result<_, _>>()?,
            arrow_schema: w.arrow_schema,
            definition: wire::digest("definition_digest", &w.definition_digest)?,
            row_count: w.row_count,
            always_reads: reads_from_wire("always_reads", &w.always_reads)?,
            node: wire::peer("node", &w.node)?,
            budgets: w
                .budgets
                .iter()
                .map(budget_from_wire)
                .collect::<Result<_, _>>()?,
            joint_with: wire::names("joint_with", &w.joint_with)?,
            linkable: w.linkable.as_ref().map(linkable_from_wire).transpose()?,
        };
        product.check()?;
        Ok(product)
    }
}

fn linkable_to_wire(l: &Linkable) -> proto::Linkable {
    proto::Linkable {
        identity: l.identity.to_string(),
        dpia: l.dpia.to_string(),
        with: l.with.iter().map(ToString::to_string).collect(),
    }
}

fn linkable_from_wire(w: &proto::Linkable) -> Result<Linkable, WireError> {
    Ok(Linkable {
        identity: wire::name("linkable.identity", &w.identity)?,
        dpia: wire::name("linkable.dpia", &w.dpia)?,
        with: wire::names("linkable.with", &w.with)?,
    })
}

fn text<T: ToString>(name: Option<&T>) -> String {
    name.map(ToString::to_string).unwrap_or_default()
}

fn release_to_wire(class: ReleaseClass) -> proto::ReleaseClass {
    match class {
        ReleaseClass::Open => proto::ReleaseClass::Open,
        ReleaseClass::Restricted => proto::ReleaseClass::Restricted,
        ReleaseClass::Aggregate => proto::ReleaseClass::Aggregate,
        ReleaseClass::Warranted => proto::ReleaseClass::Warranted,
    }
}

fn release_from_wire(value: i32) -> Result<ReleaseClass, WireError> {
    match proto::ReleaseClass::try_from(value) {
        Ok(proto::ReleaseClass::Open) => Ok(ReleaseClass::Open),
        Ok(proto::ReleaseClass::Restricted) => Ok(ReleaseClass::Restricted),
        Ok(proto::ReleaseClass::Aggregate) => Ok(ReleaseClass::Aggregate),
        Ok(proto::ReleaseClass::Warranted) => Ok(ReleaseClass::Warranted),
        Ok(proto::ReleaseClass::Unspecified) | Err(_) => Err(WireError::Unknown {
            field: "release_class",
            value,
        }),
    }
}

fn class_to_wire(class: ColumnClass) -> proto::ColumnClass {
    match class {
        ColumnClass::Open => proto::ColumnClass::Open,
        ColumnClass::Quasi => proto::ColumnClass::Quasi,
        ColumnClass::Measure => proto::ColumnClass::Measure,
        ColumnClass::Identifier => proto::ColumnClass::Identifier,
        ColumnClass::Secret => proto::ColumnClass::Secret,
    }
}

fn class_from_wire(value: i32) -> Result<ColumnClass, WireError> {
    match proto::ColumnClass::try_from(value) {
        Ok(proto::ColumnClass::Open) => Ok(ColumnClass::Open),
        Ok(proto::ColumnClass::Quasi) => Ok(ColumnClass::Quasi),
        Ok(proto::ColumnClass::Measure) => Ok(ColumnClass::Measure),
        Ok(proto::ColumnClass::Identifier) => Ok(ColumnClass::Identifier),
        Ok(proto::ColumnClass::Secret) => Ok(ColumnClass::Secret),
        Ok(proto::ColumnClass::Unspecified) | Err(_) => Err(WireError::Unknown {
            field: "columns.column_class",
            value,
        }),
    }
}

fn column_to_wire(c: &Column) -> proto::Column {
    proto::Column {
        name: c.name.to_string(),
        column_class: class_to_wire(c.class).into(),
        doc: c.doc.clone(),
        reads: reads_to_wire(&c.reads),
    }
}

fn column_from_wire(c: proto::Column) -> Result<Column, WireError> {
    Ok(Column {
        name: wire::name("columns.name", &c.name)?,
        class: class_from_wire(c.column_class)?,
        doc: c.doc,
        reads: reads_from_wire("columns.reads", &c.reads)?,
    })
}

fn reads_to_wire(reads: &BTreeSet<DatasetColumn>) -> Vec<proto::DatasetColumn> {
    reads
        .iter()
        .map(|r| proto::DatasetColumn {
            dataset: r.dataset.to_string(),
            column: r.column.to_string(),
        })
        .collect()
}

fn reads_from_wire(
    field: &'static str,
    reads: &[proto::DatasetColumn],
) -> Result<BTreeSet<DatasetColumn>, WireError> {
    let mut set = BTreeSet::new();
    for r in reads {
        let read = DatasetColumn {
            dataset: wire::name(field, &r.dataset)?,
            column: wire::name(field, &r.column)?,
        };
        if !set.insert(read) {
            return Err(WireError::Twice {
                field,
                name: format!("{}.{}", r.dataset, r.column),
            });
        }
    }
    Ok(set)
}

fn dimension_to_wire(d: &Dimension) -> proto::Dimension {
    proto::Dimension {
        column: d.column.to_string(),
        roll_ups: d.roll_ups.iter().map(roll_up_to_wire).collect(),
        values: d.values.clone(),
        within: text(d.within.as_ref()),
    }
}

fn dimension_from_wire(d: proto::Dimension) -> Result<Dimension, WireError> {
    Ok(Dimension {
        column: wire::name("dimensions.column", &d.column)?,
        roll_ups: d
            .roll_ups
            .into_iter()
            .map(roll_up_from_wire)
            .collect::<Result<_, _>>()?,
        values: d.values,
        within: wire::optional_name("dimensions.within", &d.within)?,
    })
}

fn roll_up_to_wire(r: &RollUp) -> proto::RollUp {
    let kind = match &r.kind {
        RollUpKind::DateTrunc(unit) => proto::roll_up::Kind::DateTrunc(unit.clone()),
        RollUpKind::Group(values) => proto::roll_up::Kind::Group(proto::ValueGroup {
            values: values.clone(),
        }),
    };
    proto::RollUp {
        name: r.name.clone(),
        kind: Some(kind),
    }
}

fn roll_up_from_wire(r: proto::RollUp) -> Result<RollUp, WireError> {
    let kind = match r.kind {
        Some(proto::roll_up::Kind::DateTrunc(unit)) => RollUpKind::DateTrunc(unit),
        Some(proto::roll_up::Kind::Group(g)) => RollUpKind::Group(g.values),
        None => {
            return Err(WireError::Missing {
                field: "dimensions.roll_ups.kind",
            });
        }
    };
    Ok(RollUp { name: r.name, kind })
}

fn measure_to_wire(m: &Measure) -> proto::Measure {
    proto::Measure {
        column: m.column.to_string(),
        lower: m.lower,
        upper: m.upper,
    }
}

fn measure_from_wire(m: &proto::Measure) -> Result<Measure, WireError> {
    Ok(Measure {
        column: wire::name("measures.column", &m.column)?,
        lower: m.lower,
        upper: m.upper,
    })
}

fn budget_to_wire(b: &Budget) -> proto::Budget {
    let period = match b.period {
        BudgetPeriod::Month => proto::BudgetPeriod::Month,
        BudgetPeriod::Quarter => proto::BudgetPeriod::Quarter,
        BudgetPeriod::Year => proto::BudgetPeriod::Year,
    };
    proto::Budget {
        purpose: b.purpose.to_string(),
        nano_rho: b.rho.get(),
        period: period.into(),
        per_query_nano_rho: b.per_query.get(),
        cells_per_unit: b.cells_per_unit,
        datasets: b.datasets.iter().map(ToString::to_string).collect(),
    }
}

fn budget_from_wire(b: &proto::Budget) -> Result<Budget, WireError> {
    let period = match proto::BudgetPeriod::try_from(b.period) {
        Ok(proto::BudgetPeriod::Month) => BudgetPeriod::Month,
        Ok(proto::BudgetPeriod::Quarter) => BudgetPeriod::Quarter,
        Ok(proto::BudgetPeriod::Year) => BudgetPeriod::Year,
        Ok(proto::BudgetPeriod::Unspecified) | Err(_) => {
            return Err(WireError::Unknown {
                field: "budgets.period",
                value: b.period,
            });
        }
    };
    Ok(Budget {
        purpose: wire::name("budgets.purpose", &b.purpose)?,
        datasets: wire::names("budgets.datasets", &b.datasets)?,
        rho: NanoRho::new(b.nano_rho),
        period,
        per_query: NanoRho::new(b.per_query_nano_rho),
        cells_per_unit: b.cells_per_unit,
    })
}
