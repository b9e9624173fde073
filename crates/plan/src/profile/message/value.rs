//! Literals and types.

use super::{Checked, Walk, need, refuse};
use crate::profile::ProfileError;
use datafusion_substrait::substrait::proto;
use proto::Type;
use proto::expression::Literal;
use proto::expression::literal::interval_day_to_second::PrecisionMode;
use proto::expression::literal::{IntervalDayToSecond, IntervalYearToMonth, LiteralType};
use proto::r#type::Kind;

impl Walk<'_> {
    pub(super) fn literal(&mut self, l: &Literal) -> Checked {
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

    pub(super) fn column_type(&mut self, t: &Type) -> Checked {
        match need(t.kind.as_ref())? {
            Kind::List(list) => {
                self.count(1)?;
                self.flat_type(need(list.r#type.as_deref())?)
            }
            _ => self.flat_type(t),
        }
    }

    pub(super) fn flat_type(&mut self, t: &Type) -> Checked {
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
