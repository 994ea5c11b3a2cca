//! The database: SQLite in a file, or PostgreSQL, behind one set of SQL texts.
//!
//! sqlx's `Any` driver knows no UUID, time or JSON column on both engines, so columns are TEXT and BIGINT. What differs
//! between the engines is in this file: how a writing transaction begins and how rows are locked. There are no macros
//! that check SQL at build time; the contract suite that runs on both engines is the check.

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::time::Duration;

use sqlx::any::AnyPoolOptions;
use sqlx::migrate::Migrator;
use sqlx::{Any, AnyPool, Connection, Row, Transaction};

use super::StoreError;

static MIGRATIONS: Migrator = sqlx::migrate!("./migrations");

/// SQLite before this could lose committed pages when two connections checkpointed a WAL at once.
const MIN_SQLITE: (&str, [u32; 3]) = ("3.51.3", [3, 51, 3]);
/// For SQLite more connections than a few only wait for one another.
const MAX_CONNECTIONS: u32 = 8;
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(15);

/// A pool of connections.
#[derive(Debug, Clone)]
pub struct Database {
    pool: AnyPool,
    engine: Engine,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Engine {
    Sqlite,
    Postgres,
}

impl Database {
    /// Opens (or makes) a SQLite database in a file.
    pub async fn open_file(path: &Path) -> Result<Self, StoreError> {
        is_database(path)?;
        Self::open(&url_of(path)).await
    }

    /// Opens the database at a URL, `sqlite:` or `postgres:`, and brings its tables up to date.
    pub async fn open(url: &str) -> Result<Self, StoreError> {
        // By a connection of its own: another one that sees tables half changed would not know their columns later.
        let alone = options(engine_of(url)).max_connections(1).connect(url).await?;
        let migrated = MIGRATIONS.run(&alone).await;
        alone.close().await;
        migrated?;
        Self::open_as_it_is(url).await
    }

    /// Opens the database at a URL, whichever version of this program made its tables.
    async fn open_as_it_is(url: &str) -> Result<Self, StoreError> {
        let engine = engine_of(url);
        let pool = kept_open(engine, options(engine)).max_connections(MAX_CONNECTIONS).connect(url).await?;
        if engine == Engine::Sqlite {
            let (found,): (String,) = sqlx::query_as("SELECT sqlite_version()").fetch_one(&pool).await?;
            check_sqlite_version(found)?;
        }
        Ok(Self { pool, engine })
    }

    /// For statements that stand alone.
    pub fn pool(&self) -> &AnyPool {
        &self.pool
    }

    /// Begins a transaction that will write. On SQLite it takes the write lock at once: a transaction that begins as a
    /// reader and then writes cannot wait for another writer, it fails.
    pub async fn begin(&self) -> Result<Transaction<'static, Any>, StoreError> {
        let begin = match self.engine {
            Engine::Sqlite => "BEGIN IMMEDIATE",
            Engine::Postgres => "BEGIN",
        };
        Ok(self.pool.begin_with(begin).await?)
    }

    /// Waits until no other transaction holds `name`, and holds it to the end of this one. On SQLite a writing transaction
    /// is alone anyway.
    pub async fn lock_name(&self, tx: &mut Transaction<'static, Any>, name: &str) -> Result<(), StoreError> {
        if self.engine == Engine::Postgres {
            // `::text` because the driver knows no VOID. Two names with one hash only wait for each other.
            let lock = sqlx::query("SELECT pg_advisory_xact_lock(hashtextextended($1, 0))::text");
            lock.bind(name).execute(&mut **tx).await?;
        }
        Ok(())
    }

    /// Gives pages that nothing is in any more back to the disk, some tens of megabytes of them. PostgreSQL has its own ways.
    pub(super) async fn shrink(&self) -> Result<(), StoreError> {
        if self.engine == Engine::Sqlite {
            sqlx::query("PRAGMA incremental_vacuum(10000)").fetch_all(&self.pool).await?;
        }
        Ok(())
    }

    /// What the engine finds wrong with the file, in sentences. PostgreSQL looks after its own.
    pub async fn check(&self) -> Result<Vec<String>, StoreError> {
        if self.engine == Engine::Postgres {
            return Ok(Vec::new());
        }
        let mut found = Vec::new();
        let lines: Vec<(String,)> = sqlx::query_as("PRAGMA integrity_check").fetch_all(&self.pool).await?;
        found.extend(lines.into_iter().map(|(line,)| line).filter(|line| line != "ok"));
        for row in sqlx::query("PRAGMA foreign_key_check").fetch_all(&self.pool).await? {
            let (table, parent): (&str, &str) = (row.try_get(0)?, row.try_get(2)?);
            found.push(format!("a row of {table} names one of {parent} that is not there"));
        }
        Ok(found)
    }

    /// Copies a SQLite database, which others may be writing to, as it stands into a file that does not exist yet. Nothing
    /// in it changes, its tables neither.
    pub(super) async fn copy_file(from: &Path, to: &Path) -> Result<(), StoreError> {
        is_database(from)?;
        let database = Self::open_as_it_is(&url_of(from)).await?;
        let query = sqlx::query("VACUUM INTO $1").bind(to.to_string_lossy().into_owned());
        let copied = query.execute(&database.pool).await;
        database.pool.close().await;
        copied?;
        Ok(())
    }

    /// A column of JSON text, without what lies at these paths (keys with dots between them).
    pub fn without(&self, column: &str, paths: &[&str]) -> String {
        let removed: String = match self.engine {
            Engine::Sqlite => paths.iter().map(|path| format!(", '$.{path}'")).collect(),
            Engine::Postgres => paths.iter().map(|path| format!(" #- '{{{}}}'", path.replace('.', ","))).collect(),
        };
        match self.engine {
            _ if paths.is_empty() => column.into(),
            Engine::Sqlite => format!("json_remove({column}{removed}) AS {column}"),
            Engine::Postgres => format!("({column}::jsonb{removed})::text AS {column}"),
        }
    }

    /// What ends a SELECT whose row this transaction will change.
    pub fn lock_row(&self) -> &'static str {
        match self.engine {
            Engine::Sqlite => "",
            Engine::Postgres => "FOR UPDATE",
        }
    }

    /// What ends a SELECT that passes over rows that another transaction is changing.
    pub fn skip_locked(&self) -> &'static str {
        match self.engine {
            Engine::Sqlite => "",
            Engine::Postgres => "FOR UPDATE SKIP LOCKED",
        }
    }
}

/// Refuses a file that is no database: the pool would try for long to open it, and not say why it could not.
fn is_database(path: &Path) -> Result<(), StoreError> {
    let mut start = [0; 16];
    let read = File::open(path).and_then(|mut file| file.read_exact(&mut start));
    match read {
        Ok(()) if start != *b"SQLite format 3\0" => Err(StoreError::NoDatabase { path: path.to_path_buf() }),
        // A new one has no bytes yet.
        _ => Ok(()),
    }
}

/// The URL of a SQLite file. It is percent-decoded by the driver, so that `?` and `#` may stand in a path.
fn url_of(path: &Path) -> String {
    let path = path.to_string_lossy().replace('%', "%25").replace('?', "%3F").replace('#', "%23");
    format!("sqlite://{path}?mode=rwc")
}

fn engine_of(url: &str) -> Engine {
    if url.starts_with("postgres") { Engine::Postgres } else { Engine::Sqlite }
}

/// Connections as all of this program are.
fn options(engine: Engine) -> AnyPoolOptions {
    sqlx::any::install_default_drivers();
    AnyPoolOptions::new()
        .acquire_timeout(ACQUIRE_TIMEOUT)
        .after_connect(move |connection, _| {
            Box::pin(async move {
                for setting in settings(engine) {
                    sqlx::query(*setting).execute(&mut *connection).await?;
                }
                Ok(())
            })
        })
        // A transaction whose end failed, on a full disk, may still be open: nobody else is to find it.
        .before_acquire(|connection, _| Box::pin(async move { Ok(!connection.is_in_transaction()) }))
}

/// Whether and when connections are opened and closed. Those to SQLite are all opened at once and stay: a caller that goes
/// away takes the connection with it that is being opened or tested for him, and SQLite keeps the file of a closed connection
/// open while there are others (POSIX gives up all locks of a process with any of its handles), so that files would add up.
fn kept_open(engine: Engine, options: AnyPoolOptions) -> AnyPoolOptions {
    match engine {
        Engine::Sqlite => {
            options.min_connections(MAX_CONNECTIONS).test_before_acquire(false).idle_timeout(None).max_lifetime(None)
        }
        Engine::Postgres => options,
    }
}

fn settings(engine: Engine) -> &'static [&'static str] {
    match engine {
        // `synchronous=FULL` makes a commit durable before it is acknowledged; in WAL mode the default would not.
        Engine::Sqlite => &[
            // Of a new database; see `shrink`.
            "PRAGMA auto_vacuum=INCREMENTAL",
            "PRAGMA busy_timeout=10000",
            "PRAGMA journal_mode=WAL",
            "PRAGMA synchronous=FULL",
            "PRAGMA foreign_keys=ON",
        ],
        Engine::Postgres => &[],
    }
}

fn check_sqlite_version(found: String) -> Result<(), StoreError> {
    let numbers: Vec<u32> = found.split('.').map(|part| part.parse().unwrap_or(0)).collect();
    if numbers.as_slice() < MIN_SQLITE.1.as_slice() {
        return Err(StoreError::SqliteTooOld { found, needed: MIN_SQLITE.0 });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_old_sqlite_is_refused_by_number_not_by_text() {
        assert!(check_sqlite_version("3.51.3".into()).is_ok());
        assert!(check_sqlite_version("3.100.0".into()).is_ok());
        assert!(check_sqlite_version("3.51.2".into()).is_err());
        assert!(check_sqlite_version("3.9.3".into()).is_err());
    }

    #[tokio::test]
    async fn a_path_with_odd_characters_is_opened_and_commits_are_durable() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("50% of #1?.sqlite");
        let database = Database::open_file(&path).await.unwrap();
        assert!(path.exists());
        let (mode,): (String,) = sqlx::query_as("PRAGMA journal_mode").fetch_one(database.pool()).await.unwrap();
        assert_eq!(mode, "wal");
        let (full,): (i64,) = sqlx::query_as("PRAGMA synchronous").fetch_one(database.pool()).await.unwrap();
        assert_eq!(full, 2);
        let (keys,): (i64,) = sqlx::query_as("PRAGMA foreign_keys").fetch_one(database.pool()).await.unwrap();
        assert_eq!(keys, 1);
    }

    #[tokio::test]
    async fn room_that_nothing_needs_any_more_goes_back_to_the_disk() {
        let folder = tempfile::tempdir().unwrap();
        let database = Database::open_file(&folder.path().join("queue.sqlite")).await.unwrap();
        let pages = async || {
            let (count,): (i64,) = sqlx::query_as("PRAGMA page_count").fetch_one(database.pool()).await.unwrap();
            count
        };
        let before = pages().await;
        let fill = "CREATE TABLE large AS SELECT randomblob(1000000) AS bytes";
        sqlx::query(fill).execute(database.pool()).await.unwrap();
        assert!(pages().await > before + 200);
        sqlx::query("DROP TABLE large").execute(database.pool()).await.unwrap();
        database.shrink().await.unwrap();
        assert!(pages().await < before + 10, "{} {before}", pages().await);
    }
}
