-- Ghost text for Neovim 0.7 and later, from an edgesmith server's /infill.
--
-- One file: copy it to ~/.config/nvim/plugin/.
-- Settings go into vim.g.edgesmith before it is loaded; a key is read from $EDGESMITH_API_KEY.
-- curl speaks HTTP. A request that nobody waits for any more ends with its curl, which closes the
-- connection, and the server stops computing. Errors never disturb typing: :EdgesmithStatus tells.

if vim.g.loaded_edgesmith or vim.fn.has("nvim-0.7") == 0 then
  return
end
vim.g.loaded_edgesmith = true

local settings = vim.tbl_extend("force", {
  url = "http://127.0.0.1:8080",
  model = nil,
  delay_ms = 120,
  lines_before = 256,
  lines_after = 64,
  max_tokens = 64,
  max_ms = 3000,
  accept = "<Tab>",
  dismiss = "<C-]>",
}, vim.g.edgesmith or {})

local space = vim.api.nvim_create_namespace("edgesmith")
local timer = nil
local job = nil
local status = "nothing asked yet"
-- What is on the screen: { buffer, row, before = the line up to the cursor, text }; row from 0.
local ghost = nil

vim.api.nvim_set_hl(0, "EdgesmithGhost", { link = "Comment", default = true })

local function cursor()
  local row, column = unpack(vim.api.nvim_win_get_cursor(0))
  local line = vim.api.nvim_get_current_line()
  return row - 1, column, line:sub(1, column), line:sub(column + 1)
end

local function cancel()
  if timer then
    vim.fn.timer_stop(timer)
    timer = nil
  end
  if job then
    local stale = job
    job = nil
    vim.fn.jobstop(stale)
  end
end

local function hide()
  if ghost and vim.api.nvim_buf_is_valid(ghost.buffer) then
    vim.api.nvim_buf_clear_namespace(ghost.buffer, space, 0, -1)
  end
  ghost = nil
end

-- The rest of the line moves behind the ghost's last line, as it will when the ghost is taken.
local function show(text)
  hide()
  local row, column, before, after = cursor()
  local lines = vim.split(text, "\n", { plain = true })
  local parts = {}
  for number, line in ipairs(lines) do
    parts[number] = { { line, "EdgesmithGhost" } }
  end
  table.insert(parts[#parts], { after, "Normal" })
  local width = vim.fn.strdisplaywidth(lines[1])
  local covered = vim.fn.strdisplaywidth(after)
  if #lines > 1 and width < covered then
    table.insert(parts[1], { string.rep(" ", covered - width), "Normal" })
  end
  local buffer = vim.api.nvim_get_current_buf()
  vim.api.nvim_buf_set_extmark(buffer, space, row, column, {
    virt_text = parts[1],
    virt_text_pos = "overlay",
    virt_lines = #parts > 1 and vim.list_slice(parts, 2) or nil,
    hl_mode = "combine",
  })
  ghost = { buffer = buffer, row = row, before = before, text = text }
end

-- Typing what the ghost says eats it up; nothing has to be asked again.
local function follow()
  if not ghost or ghost.buffer ~= vim.api.nvim_get_current_buf() then
    return false
  end
  local row, _, before = cursor()
  if row ~= ghost.row or before:sub(1, #ghost.before) ~= ghost.before then
    return false
  end
  local typed = before:sub(#ghost.before + 1)
  if #typed >= #ghost.text or ghost.text:sub(1, #typed) ~= typed then
    return false
  end
  show(ghost.text:sub(#typed + 1))
  return true
end

local function request()
  local row, _, before, after = cursor()
  local first = math.max(0, row - settings.lines_before)
  local above = vim.api.nvim_buf_get_lines(0, first, row, false)
  local below = vim.api.nvim_buf_get_lines(0, row + 1, row + 1 + settings.lines_after, false)
  table.insert(above, "")
  table.insert(below, 1, after)
  return vim.fn.json_encode({
    model = settings.model,
    input_prefix = table.concat(above, "\n"),
    prompt = before,
    input_suffix = table.concat(below, "\n") .. "\n",
    n_predict = settings.max_tokens,
    t_max_predict_ms = settings.max_ms,
    stream = false,
    response_fields = { "content" },
  })
end

-- curl reads all of it from its standard input: a key in its arguments could be seen by others.
local function curl_config(body)
  local function quoted(text)
    return '"' .. text:gsub("[\\\"]", "\\%0") .. '"'
  end
  local lines = {
    "url = " .. quoted(settings.url .. "/infill"),
    'header = "Content-Type: application/json"',
    "data-binary = " .. quoted(body),
  }
  local key = vim.env.EDGESMITH_API_KEY
  if key and key ~= "" then
    table.insert(lines, "header = " .. quoted("Authorization: Bearer " .. key))
  end
  return table.concat(lines, "\n") .. "\n"
end

local function content_of(answer)
  local ok, decoded = pcall(vim.fn.json_decode, answer)
  if not ok or type(decoded) ~= "table" then
    return nil, "the answer is no JSON"
  end
  if type(decoded.content) ~= "string" then
    return nil, vim.inspect(decoded.error or decoded)
  end
  return (decoded.content:gsub("%s+$", "")), "connected"
end

local function receive(number, code, answer)
  if number ~= job then
    return
  end
  job = nil
  if code ~= 0 then
    status = ("curl ended with status %d for %s"):format(code, settings.url)
    return
  end
  local text
  text, status = content_of(answer)
  if text and text ~= "" and vim.fn.mode() == "i" and vim.fn.pumvisible() == 0 then
    show(text)
  end
end

local function ask()
  timer = nil
  local pieces = {}
  local number
  local ok, started = pcall(vim.fn.jobstart, { "curl", "--silent", "--config", "-" }, {
    stdout_buffered = true,
    on_stdout = function(_, data)
      pieces = data
    end,
    on_exit = function(_, code)
      receive(number, code, table.concat(pieces, "\n"))
    end,
  })
  if not ok or started <= 0 then
    status = "curl cannot be started"
    return
  end
  number, job = started, started
  vim.fn.chansend(started, curl_config(request()))
  vim.fn.chanclose(started, "stdin")
end

local function changed()
  cancel()
  if follow() then
    return
  end
  hide()
  if vim.bo.buftype == "" and vim.bo.modifiable then
    timer = vim.fn.timer_start(settings.delay_ms, ask)
  end
end

local function moved()
  if ghost and not follow() then
    cancel()
    hide()
  end
end

local function dismiss()
  cancel()
  hide()
end

local function accept()
  if not ghost then
    return
  end
  local row, column = cursor()
  local lines = vim.split(ghost.text, "\n", { plain = true })
  dismiss()
  vim.api.nvim_buf_set_text(0, row, column, row, column, lines)
  local last = #lines > 1 and #lines[#lines] or column + #lines[1]
  vim.api.nvim_win_set_cursor(0, { row + #lines, last })
end

local group = vim.api.nvim_create_augroup("edgesmith", {})
vim.api.nvim_create_autocmd("TextChangedI", { group = group, callback = changed })
vim.api.nvim_create_autocmd("CursorMovedI", { group = group, callback = moved })
vim.api.nvim_create_autocmd({ "InsertLeave", "BufLeave", "VimLeavePre" }, { group = group, callback = dismiss })

vim.api.nvim_create_user_command("EdgesmithAccept", accept, {})
vim.api.nvim_create_user_command("EdgesmithDismiss", dismiss, {})
vim.api.nvim_create_user_command("EdgesmithStatus", function()
  print("edgesmith: " .. status)
end, {})

-- A key that has another meaning already keeps it while no ghost is shown, unless it is mapped.
local function map(key, command)
  if vim.fn.maparg(key, "i") == "" then
    vim.keymap.set("i", key, function()
      return ghost and ("<Cmd>" .. command .. "<CR>") or key
    end, { expr = true })
  end
end
map(settings.accept, "EdgesmithAccept")
map(settings.dismiss, "EdgesmithDismiss")
