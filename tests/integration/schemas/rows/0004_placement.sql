insert into shard (number, state) values (0, 'active'), (1, 'joining');
insert into placement (publisher_id, shards, pinned) values ('acme', '{0}', true);
