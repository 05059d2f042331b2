-- `cost` by SSH adds up what is not posted yet as the pages do: it reads what they read, and writes none of it.

grant select on posted_day, reading, disk_size, server_silent to berth_receiver;
-- Until when an instance ran on a server that is silent.
grant select (seen) on server to berth_receiver;
