insert into api_key (id, publisher_id, role, secret_sha256, display_name, expire_time)
values ('expires', 'acme', 'scan', sha256('expires'), '', now() + interval '1 day');
