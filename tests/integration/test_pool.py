from indexing.gallery import open_pool
from indexing.gallery_statements import transaction
from indexing.migrations import migrate


async def test_a_connection_comes_back_to_its_pool_with_transactions(empty_dsn: str) -> None:
    await migrate(empty_dsn)
    pool = await open_pool(empty_dsn, 1)
    async with pool.connection() as connection:
        await connection.set_autocommit(True)
    async with transaction(pool, "acme") as connection:
        cursor = await connection.execute("select current_setting('imagelink.publisher')")
        assert await cursor.fetchone() == ("acme",)
    await pool.close()
