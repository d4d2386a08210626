-- Who has the cookie canary=1 gets the new version; everybody else stays.
if ngx.var.cookie_canary == "1" then
    slardar.set_upstream("new." .. ngx.var.host)
end
