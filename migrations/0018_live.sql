-- Whoever leaves is erased: their row with keys, links, sessions' start and tokens. What they did stays by their
-- number alone, and so does their customer, whose books are kept, without its name.
grant delete on users to berth_web;
grant update (name) on customer to berth_web;
