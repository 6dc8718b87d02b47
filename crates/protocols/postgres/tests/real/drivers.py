"""Drivers through the gateway. Arguments: which, then the connection as host, port, user, password, root certificate."""

import asyncio
import ssl
import sys

which, host, port, user, password, root = sys.argv[1:]


def psycopg_all():
    import psycopg

    with psycopg.connect(
        host=host, port=port, user=user, password=password, dbname="orders",
        sslmode="verify-full", sslrootcert=root, channel_binding="require",
    ) as connection:
        with connection.pipeline(), connection.cursor() as cursor:
            cursor.execute("CREATE TABLE piped (n BIGINT, t TEXT)")
            cursor.executemany("INSERT INTO piped VALUES (%s, %s)", [(n, f"row {n}") for n in range(1000)])
        connection.commit()
        with connection.pipeline() as pipeline:
            good = connection.execute("SELECT count(*) FROM piped WHERE n < %s", [10])
            pipeline.sync()
            bad = connection.execute("SELECT 1 / %s", [0])
            try:
                pipeline.sync()
                raise SystemExit("no error came")
            except psycopg.errors.DivisionByZero:
                pass
            assert good.fetchone() == (10,), "a result of before the error"
        connection.rollback()
        with connection.cursor() as cursor:
            with cursor.copy("COPY piped FROM STDIN (FORMAT binary)") as copy:
                copy.set_types(["int8", "text"])
                for n in range(1000, 2000):
                    copy.write_row((n, f"row {n}"))
            with cursor.copy("COPY (SELECT n FROM piped ORDER BY n) TO STDOUT") as copy:
                assert [int(row[0]) for row in copy.rows()] == list(range(2000))
        with connection.cursor(name="scrolls") as cursor:
            cursor.execute("SELECT n FROM piped ORDER BY n")
            assert sum(row[0] for row in cursor) == 1999000
        connection.commit()
        import threading
        threading.Timer(0.5, connection.cancel_safe).start()
        try:
            connection.execute("SELECT pg_sleep(30)")
            raise SystemExit("it was not cancelled")
        except psycopg.errors.QueryCanceled:
            connection.rollback()
        heard = []
        connection.add_notify_handler(heard.append)
        connection.autocommit = True
        connection.execute("LISTEN bell")
        connection.execute("NOTIFY bell, 'rings'")
        connection.execute("SELECT 1")
        assert [note.payload for note in heard] == ["rings"], heard


async def asyncpg_all():
    import asyncpg

    context = ssl.create_default_context(cafile=root)
    connection = await asyncpg.connect(
        host=host, port=int(port), user=user, password=password, database="orders", ssl=context
    )
    assert await connection.fetchval("SELECT $1::BIGINT[]", [1, 2, 3]) == [1, 2, 3]
    async with connection.transaction():
        await connection.execute("CREATE TABLE quick (n BIGINT, t TEXT, b BYTEA)")
        await connection.executemany("INSERT INTO quick VALUES ($1, $2, $3)", [(n, str(n), b"\x00\xff") for n in range(1000)])
    await connection.copy_records_to_table("quick", records=[(n, "copied", None) for n in range(1000, 2000)])
    async with connection.transaction():
        total = 0
        async for row in connection.cursor("SELECT n FROM quick", prefetch=100):
            total += row["n"]
        assert total == 1999000, total
    try:
        await connection.fetch("SELECT pg_sleep(30)", timeout=0.5)
        raise SystemExit("it was not cancelled")
    except asyncio.TimeoutError:
        pass
    assert await connection.fetchval("SELECT count(*) FROM quick WHERE t = 'copied'") == 1000
    await connection.close()


if which == "psycopg":
    psycopg_all()
else:
    asyncio.run(asyncpg_all())
print("all is well")
