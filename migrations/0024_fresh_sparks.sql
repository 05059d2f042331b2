-- A list of apps shows how many requests each had, hour by hour. Roll-ups wait for some minutes; until then, whoever shows
-- the list adds up what came in since, and needs to know of which hours, and since when.
grant select on series_dirty to berth_web;
