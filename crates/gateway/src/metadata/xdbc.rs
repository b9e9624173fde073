//! The types that results have, in the terms of ODBC and JDBC.

use arrow::array::RecordBatch;
use arrow_flight::error::Result;
use arrow_flight::sql::metadata::{XdbcTypeInfo, XdbcTypeInfoDataBuilder};
use arrow_flight::sql::{
    CommandGetXdbcTypeInfo, Nullable, Searchable, XdbcDataType, XdbcDatetimeSubcode,
};

/// The answer to GetXdbcTypeInfo.
pub(crate) fn xdbc_type_info(command: CommandGetXdbcTypeInfo) -> Result<RecordBatch> {
    let mut builder = XdbcTypeInfoDataBuilder::new();
    for info in types() {
        builder.append(info);
    }
    command.into_builder(&builder.build()?).build()
}

fn types() -> Vec<XdbcTypeInfo> {
    use XdbcDataType as T;
    use XdbcDatetimeSubcode as S;
    vec![
        XdbcTypeInfo {
            unsigned_attribute: None,
            ..plain("BOOLEAN", T::XdbcBit, 1)
        },
        number("TINYINT", T::XdbcTinyint, 8, 2),
        number("SMALLINT", T::XdbcSmallint, 16, 2),
        number("INTEGER", T::XdbcInteger, 32, 2),
        number("BIGINT", T::XdbcBigint, 64, 2),
        number("REAL", T::XdbcReal, 24, 2),
        number("FLOAT", T::XdbcFloat, 53, 2),
        number("DOUBLE", T::XdbcDouble, 53, 2),
        XdbcTypeInfo {
            create_params: Some(vec!["precision".into(), "scale".into()]),
            minimum_scale: Some(0),
            maximum_scale: Some(38),
            ..number("DECIMAL", T::XdbcDecimal, 38, 10)
        },
        XdbcTypeInfo {
            create_params: Some(vec!["precision".into(), "scale".into()]),
            minimum_scale: Some(0),
            maximum_scale: Some(38),
            ..number("NUMERIC", T::XdbcNumeric, 38, 10)
        },
        text("CHAR", T::XdbcChar),
        text("VARCHAR", T::XdbcVarchar),
        XdbcTypeInfo {
            literal_prefix: Some("X'".into()),
            literal_suffix: Some("'".into()),
            searchable: Searchable::Basic,
            ..plain("VARBINARY", T::XdbcVarbinary, i32::MAX)
        },
        moment("DATE", T::XdbcDate, S::XdbcSubcodeYear, "DATE '", 10, 0),
        moment("TIME", T::XdbcTime, S::XdbcSubcodeTime, "TIME '", 15, 6),
        moment(
            "TIMESTAMP",
            T::XdbcTimestamp,
            S::XdbcSubcodeTimestamp,
            "TIMESTAMP '",
            26,
            6,
        ),
        XdbcTypeInfo {
            interval_precision: Some(9),
            ..moment(
                "INTERVAL",
                T::XdbcInterval,
                S::XdbcSubcodeDayToSecond,
                "INTERVAL '",
                32,
                9,
            )
        },
    ]
}

fn plain(name: &str, data_type: XdbcDataType, size: i32) -> XdbcTypeInfo {
    XdbcTypeInfo {
        type_name: name.into(),
        data_type,
        column_size: Some(size),
        nullable: Nullable::NullabilityNullable,
        searchable: Searchable::Full,
        fixed_prec_scale: false,
        auto_increment: Some(false),
        local_type_name: Some(name.into()),
        sql_data_type: data_type,
        ..XdbcTypeInfo::default()
    }
}

fn number(name: &str, data_type: XdbcDataType, size: i32, radix: i32) -> XdbcTypeInfo {
    XdbcTypeInfo {
        unsigned_attribute: Some(false),
        num_prec_radix: Some(radix),
        searchable: Searchable::Basic,
        ..plain(name, data_type, size)
    }
}

fn text(name: &str, data_type: XdbcDataType) -> XdbcTypeInfo {
    XdbcTypeInfo {
        literal_prefix: Some("'".into()),
        literal_suffix: Some("'".into()),
        create_params: Some(vec!["length".into()]),
        case_sensitive: true,
        ..plain(name, data_type, i32::MAX)
    }
}

fn moment(
    name: &str,
    data_type: XdbcDataType,
    subcode: XdbcDatetimeSubcode,
    prefix: &str,
    size: i32,
    scale: i32,
) -> XdbcTypeInfo {
    XdbcTypeInfo {
        literal_prefix: Some(prefix.into()),
        literal_suffix: Some("'".into()),
        sql_data_type: XdbcDataType::XdbcDatetime,
        datetime_subcode: Some(subcode),
        minimum_scale: Some(0),
        maximum_scale: Some(scale),
        searchable: Searchable::Basic,
        ..plain(name, data_type, size)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_type_can_be_asked_for() {
        let all = xdbc_type_info(CommandGetXdbcTypeInfo { data_type: None }).unwrap();
        assert_eq!(all.num_rows(), types().len());
        let one = CommandGetXdbcTypeInfo {
            data_type: Some(XdbcDataType::XdbcVarchar as i32),
        };
        assert_eq!(xdbc_type_info(one).unwrap().num_rows(), 1);
    }
}
