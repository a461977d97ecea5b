-- A market of 2,000 active properties and 10,000 people who are signed in, the same rows on every side.
-- Moments have whole milliseconds, which is all that both sides print.

insert into users (id, email, phone, password_hash, full_name, role, is_verified, created_at, updated_at)
select md5('user' || n)::uuid, 'person' || n || '@bench.key2key.example', '+2519' || lpad(n::text, 8, '0'), 'none',
       'Person Number ' || n, (array['buyer', 'seller', 'agent'])[1 + n % 3], n % 2 = 0,
       timestamptz '2026-01-01' + n * interval '61 seconds 7 ms', timestamptz '2026-06-01' + n * interval '31 seconds'
from generate_series(1, 10000) as n;

insert into sign_ins (id, user_id, device, created_at)
select md5('sign-in' || n)::uuid, md5('user' || n)::uuid, 'Key2Key/1.0 (Android 15)', timestamptz '2026-09-01'
from generate_series(1, 10000) as n;

insert into agent_profiles (id, user_id, display_name, company_name, rating, review_count, created_at, updated_at)
select md5('agent' || n)::uuid, md5('user' || n)::uuid, 'Agent Number ' || n, 'Agency of ' || n % 40, (n % 50) * 0.1,
       n % 200, timestamptz '2026-02-01', timestamptz '2026-02-01'
from generate_series(1, 500) as n;

insert into listings (id, kind, owner_id, title, description, listing_type, price, price_period, status, address,
                      neighborhood, city, latitude, longitude, amenities, features, is_featured, language,
                      published_at, created_at, updated_at)
select md5('listing' || n)::uuid, 'property', md5('user' || 1 + n % 500)::uuid,
       'Home number ' || n || ' with a view of the hills',
       case when n % 3 = 0 then 'ሁለተኛ ፎቅ፣ ውሃና መብራት የማይቋረጥበት፣ ካርታው የተዘጋጀ። '
            else 'Two floors on a quiet lane, a well, a garden and room for cars; the owner answers in the evening. '
       end || repeat('Close to schools. ', n % 5),
       (array['sale', 'rent'])[1 + n % 2], 900000 + n * 1250.50, (array[null, 'month'])[1 + n % 2], 'active',
       'Street ' || n % 90, (array['Bole', 'CMC', 'Piassa', 'Ayat'])[1 + n % 4], 'Addis Ababa',
       8.95 + (n % 97) * 0.001, 38.71 + (n % 89) * 0.0015,
       (array['Lift', 'Garden', 'Generator', 'Water tank', 'Parking'])[1 : n % 6],
       (array['Balcony', 'Fitted kitchen', 'View'])[1 : n % 4], n % 20 = 0,
       case when n % 3 = 0 then 'am' else 'en' end, moment, moment, moment + interval '1 hour 1 ms'
from generate_series(1, 2000) as n, lateral (select timestamptz '2026-03-01' + n * interval '901 seconds 11 ms') as m (moment);

insert into properties (id, property_type, bedrooms, bathrooms, square_meters, year_built)
select md5('listing' || n)::uuid, (array['house', 'apartment', 'condo', 'villa', 'land'])[1 + n % 5],
       nullif(n % 6, 0), nullif(n % 4, 0), 40.5 + n % 300, case when n % 5 = 4 then null else 1990 + n % 36 end
from generate_series(1, 2000) as n;

insert into media (id, owner_id, purpose, state, media_type, bytes, sha256, width, height, color, blurhash, phash,
                   created_at, ready_at)
select md5('media' || n || '.' || m)::uuid, md5('user' || 1 + n % 500)::uuid, 'image', 'ready', 'image/webp', 90000 + n,
       sha256(convert_to('media' || n || '.' || m, 'UTF8')), 1920, 1280, '#a0b0c0', 'LEHV6nWB2yk8pyo0adR*.7kCMdnj', n,
       timestamptz '2026-02-02', timestamptz '2026-02-02'
from generate_series(1, 2000) as n, generate_series(1, 5) as m;

insert into images (id, listing_id, media_id, is_primary, display_order, created_at)
select md5('image' || n || '.' || m)::uuid, md5('listing' || n)::uuid, md5('media' || n || '.' || m)::uuid, m = 1, m,
       timestamptz '2026-02-02'
from generate_series(1, 2000) as n, generate_series(1, 5) as m;

insert into listing_stats (id, view_count, save_count)
select md5('listing' || n)::uuid, n * 7 % 1000, n % 13 from generate_series(1, 2000) as n;

select write_listing_texts(array(select id from listings));

vacuum analyze;
