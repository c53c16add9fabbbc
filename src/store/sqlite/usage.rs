//! What turns used: of each turn, of each session, and by day, agent, user and provider.
//!
//! Invariant: a turn's use is written in the transaction that ends it, once; where it used nothing, nothing is written. Fails as
//! any command does.

use crate::domain::{Spent, Usage};
use crate::store::sqlite::sql::{Ran, Sql};

/// Most tokens or calls of one turn: what is beyond was never true.
const COUNT_MAX: u64 = 1 << 40;
/// Most rows that a list gives.
const ROWS_MAX: i64 = 10_000;

/// Writes down what a turn used. Gives its tokens, in and out.
pub(super) fn spend(sql: &Sql<'_>, session: i64, spent: &[Spent]) -> Ran<(i64, i64)> {
    let bounded = |count: u64| count.min(COUNT_MAX) as i64;
    let (mut tokens_in, mut tokens_out) = (0, 0);
    for part in spent.iter().filter(|part| (part.tokens_in, part.tokens_out, part.calls) != (0, 0, 0)) {
        let (part_in, part_out) = (bounded(part.tokens_in), bounded(part.tokens_out));
        sql.exec(
            "INSERT INTO usage (day, agent, user_id, provider, tokens_in, tokens_out, calls)
             SELECT ?1, agent, user_id, ?3, ?4, ?5, ?6 FROM sessions WHERE n = ?2
             ON CONFLICT DO UPDATE SET tokens_in = tokens_in + excluded.tokens_in,
                tokens_out = tokens_out + excluded.tokens_out, calls = calls + excluded.calls",
            (sql.today(), session, &part.provider, part_in, part_out, bounded(part.calls)),
        )?;
        (tokens_in, tokens_out) = (tokens_in + part_in, tokens_out + part_out);
    }
    if (tokens_in, tokens_out) != (0, 0) {
        sql.exec(
            "UPDATE uses SET tokens_in = tokens_in + ?2, tokens_out = tokens_out + ?3 WHERE session = ?1",
            [session, tokens_in, tokens_out],
        )?;
    }
    Ok((tokens_in, tokens_out))
}

/// What was used since a day, the latest first.
pub(super) fn usage(sql: &Sql<'_>, day: i64, user_id: Option<&str>) -> Ran<Vec<Usage>> {
    sql.all(
        "SELECT day, agent, user_id, provider, tokens_in, tokens_out, calls FROM usage
         WHERE day >= ?1 AND (?2 IS NULL OR user_id = ?2) ORDER BY day DESC, agent, user_id, provider LIMIT ?3",
        (day, user_id, ROWS_MAX),
        |row| {
            Ok(Usage {
                day: row.get(0)?,
                agent: row.get(1)?,
                user_id: row.get(2)?,
                provider: row.get(3)?,
                tokens_in: row.get::<_, i64>(4)? as u64,
                tokens_out: row.get::<_, i64>(5)? as u64,
                calls: row.get::<_, i64>(6)? as u64,
            })
        },
    )
}

/// A day's tokens of an agent, of one user or of all.
pub(super) fn tokens_of(sql: &Sql<'_>, day: i64, agent: &str, user_id: Option<&str>) -> Ran<u64> {
    const SUM: &str = "SELECT COALESCE(sum(tokens_in + tokens_out), 0) FROM usage WHERE day = ?1 AND agent = ?2";
    let tokens = match user_id {
        Some(user_id) => sql.one(&format!("{SUM} AND user_id = ?3"), (day, agent, user_id), |row| row.get::<_, i64>(0)),
        None => sql.one(SUM, (day, agent), |row| row.get(0)),
    }?;
    Ok(tokens.unwrap_or(0) as u64)
}
