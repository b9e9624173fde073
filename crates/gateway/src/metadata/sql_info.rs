//! What this server says it can do.
//!
//! Every value that Flight SQL defines is here, in the member of the union that drivers cast it
//! to: a missing one is a null pointer in JDBC, and one in another member a failed cast there.

use arrow::array::RecordBatch;
use arrow_flight::error::Result;
use arrow_flight::sql::metadata::{SqlInfoData, SqlInfoDataBuilder};
use arrow_flight::sql::{
    CommandGetSqlInfo, SqlInfo, SqlNullOrdering, SqlOuterJoinsSupportLevel,
    SqlSupportedCaseSensitivity, SqlSupportedGroupBy, SqlSupportedResultSetConcurrency,
    SqlSupportedResultSetType, SqlSupportedSubqueries, SqlSupportedTransaction, SqlSupportedUnions,
    SqlSupportsConvert, SqlTransactionIsolationLevel, SupportedSqlGrammar,
};
use guildhall_plan::functions::{Subject, names};
use std::collections::BTreeMap;

// Words beyond SQL:2003 that the parser keeps for itself.
const KEYWORDS: &[&str] = &[
    "ANTI", "EXPLAIN", "ILIKE", "LIMIT", "OFFSET", "QUALIFY", "SEMI", "SHOW", "TRY_CAST",
];

// Called like a function, and parsed as a form of its own.
const EXTRACT: &str = "extract";

/// The limits that tools are told.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ServerLimits {
    /// Longest statement in characters.
    pub(crate) statement: i64,
    /// How long a prepared statement handle lives.
    pub(crate) handle_ms: i32,
    /// Statements at once for one principal.
    pub(crate) statements: i64,
}

/// The answer to GetSqlInfo.
pub(crate) fn sql_info(command: CommandGetSqlInfo, limits: ServerLimits) -> Result<RecordBatch> {
    command.into_builder(&all(limits)?).build()
}

fn all(limits: ServerLimits) -> Result<SqlInfoData> {
    let mut b = SqlInfoDataBuilder::new();
    server(&mut b, limits);
    language(&mut b);
    abilities(&mut b);
    sizes(&mut b, limits);
    transactions(&mut b);
    b.build()
}

fn server(b: &mut SqlInfoDataBuilder, limits: ServerLimits) {
    b.append(SqlInfo::FlightSqlServerName, "Guildhall");
    b.append(SqlInfo::FlightSqlServerVersion, env!("CARGO_PKG_VERSION"));
    b.append(SqlInfo::FlightSqlServerArrowVersion, "1.3");
    b.append(SqlInfo::FlightSqlServerReadOnly, true);
    b.append(SqlInfo::FlightSqlServerSql, true);
    b.append(SqlInfo::FlightSqlServerSubstrait, false);
    b.append(SqlInfo::FlightSqlServerSubstraitMinVersion, "");
    b.append(SqlInfo::FlightSqlServerSubstraitMaxVersion, "");
    b.append(
        SqlInfo::FlightSqlServerTransaction,
        SqlSupportedTransaction::None as i32,
    );
    b.append(SqlInfo::FlightSqlServerCancel, true);
    b.append(SqlInfo::FlightSqlServerBulkIngestion, false);
    b.append(SqlInfo::FlightSqlServerIngestTransactionsSupported, false);
    b.append(SqlInfo::FlightSqlServerStatementTimeout, limits.handle_ms);
    b.append(SqlInfo::FlightSqlServerTransactionTimeout, 0_i32);
}

fn language(b: &mut SqlInfoDataBuilder) {
    b.append(
        SqlInfo::SqlIdentifierCase,
        SqlSupportedCaseSensitivity::SqlCaseSensitivityLowercase as i32,
    );
    b.append(SqlInfo::SqlIdentifierQuoteChar, "\"");
    b.append(
        SqlInfo::SqlQuotedIdentifierCase,
        SqlSupportedCaseSensitivity::SqlCaseSensitivityUnknown as i32,
    );
    b.append(
        SqlInfo::SqlNullOrdering,
        SqlNullOrdering::SqlNullsSortedHigh as i32,
    );
    b.append(SqlInfo::SqlKeywords, KEYWORDS);
    b.append(SqlInfo::SqlNumericFunctions, names(Subject::Numbers));
    b.append(SqlInfo::SqlStringFunctions, names(Subject::Texts));
    b.append(SqlInfo::SqlSystemFunctions, names(Subject::General));
    let mut dates = names(Subject::DateTime);
    dates.push(EXTRACT.to_owned());
    b.append(SqlInfo::SqlDatetimeFunctions, dates);
    b.append(SqlInfo::SqlSearchStringEscape, "\\");
    b.append(SqlInfo::SqlExtraNameCharacters, "");
    b.append(
        SqlInfo::SqlSupportedGrammar,
        bits(&[SupportedSqlGrammar::SqlMinimumGrammar as i32]),
    );
    // Of SupportedAnsi92SqlGrammarLevel, entry level: bit 0.
    b.append(SqlInfo::SqlAnsi92SupportedLevel, bits(&[0]));
    b.append(SqlInfo::SqlSchemaTerm, "department");
    b.append(SqlInfo::SqlProcedureTerm, "procedure");
    b.append(SqlInfo::SqlCatalogTerm, "council");
    b.append(SqlInfo::SqlCatalogAtStart, true);
}

fn abilities(b: &mut SqlInfoDataBuilder) {
    for (info, yes) in [
        (SqlInfo::SqlDdlCatalog, false),
        (SqlInfo::SqlDdlSchema, false),
        (SqlInfo::SqlDdlTable, false),
        (SqlInfo::SqlAllTablesAreSelectable, true),
        (SqlInfo::SqlSupportsColumnAliasing, true),
        (SqlInfo::SqlNullPlusNullIsNull, true),
        (SqlInfo::SqlSupportsTableCorrelationNames, true),
        (SqlInfo::SqlSupportsDifferentTableCorrelationNames, false),
        (SqlInfo::SqlSupportsExpressionsInOrderBy, true),
        (SqlInfo::SqlSupportsOrderByUnrelated, true),
        (SqlInfo::SqlSupportsLikeEscapeClause, true),
        (SqlInfo::SqlSupportsNonNullableColumns, false),
        (SqlInfo::SqlSupportsIntegrityEnhancementFacility, false),
        (SqlInfo::SqlSelectForUpdateSupported, false),
        (SqlInfo::SqlStoredProceduresSupported, false),
        (SqlInfo::SqlCorrelatedSubqueriesSupported, true),
        (SqlInfo::SqlMaxRowSizeIncludesBlobs, true),
        (SqlInfo::SqlBatchUpdatesSupported, false),
        (SqlInfo::SqlNamedParametersSupported, false),
        (SqlInfo::SqlLocatorsUpdateCopy, false),
        (SqlInfo::SqlStoredFunctionsUsingCallSyntaxSupported, false),
    ] {
        b.append(info, yes);
    }
    b.append(
        SqlInfo::SqlSupportedGroupBy,
        bits(&[
            SqlSupportedGroupBy::SqlGroupByUnrelated as i32,
            SqlSupportedGroupBy::SqlGroupByBeyondSelect as i32,
        ]),
    );
    b.append(
        SqlInfo::SqlOuterJoinsSupportLevel,
        bits(&[
            SqlOuterJoinsSupportLevel::SqlLimitedOuterJoins as i32,
            SqlOuterJoinsSupportLevel::SqlFullOuterJoins as i32,
        ]),
    );
    b.append(SqlInfo::SqlSchemasSupportedActions, 0_i32);
    b.append(SqlInfo::SqlCatalogsSupportedActions, 0_i32);
    b.append(SqlInfo::SqlSupportedPositionedCommands, 0_i32);
    b.append(
        SqlInfo::SqlSupportedSubqueries,
        bits(&[
            SqlSupportedSubqueries::SqlSubqueriesInComparisons as i32,
            SqlSupportedSubqueries::SqlSubqueriesInExists as i32,
            SqlSupportedSubqueries::SqlSubqueriesInIns as i32,
        ]),
    );
    b.append(
        SqlInfo::SqlSupportedUnions,
        bits(&[
            SqlSupportedUnions::SqlUnion as i32,
            SqlSupportedUnions::SqlUnionAll as i32,
        ]),
    );
    b.append(SqlInfo::SqlSupportsConvert, conversions());
    let read_only =
        bits(&[SqlSupportedResultSetConcurrency::SqlResultSetConcurrencyReadOnly as i32]);
    b.append(
        SqlInfo::SqlSupportedResultSetTypes,
        bits(&[SqlSupportedResultSetType::SqlResultSetTypeForwardOnly as i32]),
    );
    b.append(
        SqlInfo::SqlSupportedConcurrenciesForResultSetUnspecified,
        0_i32,
    );
    b.append(
        SqlInfo::SqlSupportedConcurrenciesForResultSetForwardOnly,
        read_only,
    );
    b.append(
        SqlInfo::SqlSupportedConcurrenciesForResultSetScrollSensitive,
        0_i32,
    );
    b.append(
        SqlInfo::SqlSupportedConcurrenciesForResultSetScrollInsensitive,
        0_i32,
    );
}

fn sizes(b: &mut SqlInfoDataBuilder, limits: ServerLimits) {
    // 0 means no limit, or none that is known.
    for info in [
        SqlInfo::SqlMaxBinaryLiteralLength,
        SqlInfo::SqlMaxCharLiteralLength,
        SqlInfo::SqlMaxColumnsInGroupBy,
        SqlInfo::SqlMaxColumnsInIndex,
        SqlInfo::SqlMaxColumnsInOrderBy,
        SqlInfo::SqlMaxColumnsInSelect,
        SqlInfo::SqlMaxColumnsInTable,
        SqlInfo::SqlMaxConnections,
        SqlInfo::SqlMaxCursorNameLength,
        SqlInfo::SqlMaxIndexLength,
        SqlInfo::SqlMaxProcedureNameLength,
        SqlInfo::SqlMaxRowSize,
        SqlInfo::SqlMaxTablesInSelect,
    ] {
        b.append(info, 0_i64);
    }
    b.append(SqlInfo::SqlMaxColumnNameLength, 128_i64);
    b.append(SqlInfo::SqlDbSchemaNameLength, 63_i64);
    b.append(SqlInfo::SqlMaxCatalogNameLength, 63_i64);
    b.append(SqlInfo::SqlMaxTableNameLength, 63_i64);
    b.append(SqlInfo::SqlMaxUsernameLength, 128_i64);
    b.append(SqlInfo::SqlMaxStatementLength, limits.statement);
    b.append(SqlInfo::SqlMaxStatements, limits.statements);
}

fn transactions(b: &mut SqlInfoDataBuilder) {
    // JDBC reads the default level as a long, the set of levels as an int.
    b.append(
        SqlInfo::SqlDefaultTransactionIsolation,
        i64::from(SqlTransactionIsolationLevel::SqlTransactionNone as i32),
    );
    b.append(SqlInfo::SqlTransactionsSupported, false);
    b.append(
        SqlInfo::SqlSupportedTransactionsIsolationLevels,
        bits(&[SqlTransactionIsolationLevel::SqlTransactionNone as i32]),
    );
    b.append(SqlInfo::SqlDataDefinitionCausesTransactionCommit, false);
    b.append(SqlInfo::SqlDataDefinitionsInTransactionsIgnored, false);
    b.append(SqlInfo::SqlSavepointsSupported, false);
}

fn conversions() -> BTreeMap<i32, Vec<i32>> {
    use SqlSupportsConvert as C;
    let numbers = [
        C::SqlConvertTinyint,
        C::SqlConvertSmallint,
        C::SqlConvertInteger,
        C::SqlConvertBigint,
        C::SqlConvertReal,
        C::SqlConvertFloat,
        C::SqlConvertDecimal,
        C::SqlConvertNumeric,
    ];
    let texts = [C::SqlConvertChar, C::SqlConvertVarchar];
    let moments = [C::SqlConvertDate, C::SqlConvertTime, C::SqlConvertTimestamp];
    let codes = |list: &[&[C]]| {
        list.iter()
            .flat_map(|l| l.iter().map(|c| *c as i32))
            .collect::<Vec<_>>()
    };
    let mut map = BTreeMap::new();
    for number in numbers {
        map.insert(number as i32, codes(&[&numbers, &texts]));
    }
    for text in texts {
        map.insert(
            text as i32,
            codes(&[&numbers, &texts, &moments, &[C::SqlConvertBit]]),
        );
    }
    for moment in moments {
        map.insert(moment as i32, codes(&[&moments, &texts]));
    }
    map.insert(C::SqlConvertBit as i32, codes(&[&numbers, &texts]));
    map
}

fn bits(numbers: &[i32]) -> i32 {
    numbers.iter().fold(0, |mask, n| mask | (1 << n))
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{AsArray, UnionArray};
    use arrow::datatypes::UInt32Type;

    const LIMITS: ServerLimits = ServerLimits {
        statement: 1_000_000,
        handle_ms: 3_600_000,
        statements: 8,
    };

    #[test]
    fn every_value_that_flight_sql_defines_is_served() {
        let batch = sql_info(CommandGetSqlInfo { info: vec![] }, LIMITS).unwrap();
        let served: Vec<u32> = batch
            .column(0)
            .as_primitive::<UInt32Type>()
            .values()
            .to_vec();
        let defined: Vec<u32> = (0..2000)
            .filter(|n| SqlInfo::try_from(*n).is_ok())
            .map(|n| u32::try_from(n).unwrap())
            .collect();
        assert_eq!(served, defined);
    }

    #[test]
    fn values_stand_where_drivers_cast_them_to() {
        let member = |info: SqlInfo| {
            let asked = CommandGetSqlInfo {
                info: vec![u32::try_from(info as i32).unwrap()],
            };
            let batch = sql_info(asked, LIMITS).unwrap();
            let union: UnionArray = batch
                .column(1)
                .as_any()
                .downcast_ref::<UnionArray>()
                .unwrap()
                .clone();
            union.type_id(0)
        };
        assert_eq!(member(SqlInfo::FlightSqlServerName), 0);
        assert_eq!(member(SqlInfo::FlightSqlServerReadOnly), 1);
        assert_eq!(member(SqlInfo::SqlMaxStatements), 2);
        assert_eq!(member(SqlInfo::SqlDefaultTransactionIsolation), 2);
        assert_eq!(member(SqlInfo::SqlSupportedGroupBy), 3);
        assert_eq!(member(SqlInfo::SqlKeywords), 4);
        assert_eq!(member(SqlInfo::SqlSupportsConvert), 5);
    }

    #[test]
    fn no_function_is_named_that_is_not_offered() {
        let asked = [
            SqlInfo::SqlNumericFunctions,
            SqlInfo::SqlStringFunctions,
            SqlInfo::SqlSystemFunctions,
            SqlInfo::SqlDatetimeFunctions,
        ];
        for info in asked {
            let asked = CommandGetSqlInfo {
                info: vec![u32::try_from(info as i32).unwrap()],
            };
            let batch = sql_info(asked, LIMITS).unwrap();
            let value = batch.column(1).as_union().value(0);
            let names = value.as_list::<i32>().value(0);
            let names: Vec<&str> = names.as_string::<i32>().iter().flatten().collect();
            assert!(names.len() > 5, "{names:?}");
            for name in names {
                let known = name == EXTRACT || guildhall_plan::functions::is_known(name);
                assert!(known, "{name}");
            }
        }
    }

    #[test]
    fn the_declared_schema_is_the_streamed_one() {
        let batch = sql_info(CommandGetSqlInfo { info: vec![8] }, LIMITS).unwrap();
        assert_eq!(batch.schema().as_ref(), SqlInfoDataBuilder::schema());
    }
}
